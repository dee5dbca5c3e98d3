"""Studies: arms that differ in one thing, times seeds, under equal budgets. ablate.py runs them."""
