"""What it takes to test nearbench as users meet it: a real Kubernetes, the image, and the tests."""
