"""Drivers: one module a model, behind the roles that the bench knows. No protocol in here."""
