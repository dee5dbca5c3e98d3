"""Glimpse models in third-party evaluation harnesses, which are not modified."""
