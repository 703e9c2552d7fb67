"""The network of a node: its cable, the traffic on it, and the neighbours.

Imports: verdict, vm.
"""
