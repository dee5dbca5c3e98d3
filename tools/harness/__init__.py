"""Glimpse models in other people's evaluation harnesses, without a change to those."""
