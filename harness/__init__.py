"""The kiOS end-to-end harness: a real node under QEMU, and what a scenario may ask of it."""
