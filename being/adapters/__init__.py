"""Doors of agent frameworks to a live avatar. Each framework is an extra, imported only here."""
