"""The network of a node: its cable, what goes over it, and who else is on it.

Imports: verdict, vm.
"""
