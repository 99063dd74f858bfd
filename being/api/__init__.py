"""The live server: page, WebSocket, health and metrics on one port; its processes."""
