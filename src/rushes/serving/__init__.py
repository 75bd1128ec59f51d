"""From a classifier to an endpoint: ONNX bundle, Triton repository, local server, reconciler, client."""
