"""The recording format: layout (pure bytes), rows (events to columns), writer, reader, recovery, verify."""
