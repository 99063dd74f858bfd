"""Conversation with an avatar: hearing, turns, endpoints of others. Knows no web framework."""
