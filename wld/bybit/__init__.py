"""The Bybit V5 venue: wire messages, decoder and control protocol (pure), and the Trio shell around them."""
