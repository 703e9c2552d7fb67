"""Static pod manifests: read as the kubelet reads them, checked, varied.

Imports: containers.
"""
