"""Brings the harness's options and fixtures to every scenario and test."""

pytest_plugins = ["harness.plugin", "pytester"]
