"""A printed curl line, carried out without curl: nobody needs to have it."""

import http.client
import shlex
from urllib.parse import urlsplit


def post_curl_line(curl: str) -> tuple[int, bytes]:
    """Do what the curl line says."""
    words = shlex.split(curl)
    assert words[:2] == ["curl", "-N"]
    url = urlsplit(words[2])
    header, data = words[words.index("-H") + 1], words[words.index("-d") + 1]
    name, value = header.split(": ")
    assert url.hostname is not None
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=60)
    try:
        connection.request("POST", url.path, data, {name: value})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
