"""One trace per request, proved with a real collector between the services and a recorder."""
