"""An EventSource from Python's standard library. Prints each event as a line of JSON, and `null` when it has ended."""

import http.client
import json
import sys
import time
from urllib.parse import urlsplit


def lines_of(response):
    """Yields lines without their break; the last one only if its break has arrived."""
    for line in response:
        if not line.endswith(b"\n"):
            return
        yield line.rstrip(b"\r\n").decode()


def read(url):
    address = urlsplit(url)
    last_event_id, delay = "", 3.0
    while True:
        connection = http.client.HTTPConnection(address.netloc)
        headers = {"Accept": "text/event-stream"}
        if last_event_id:
            headers["Last-Event-ID"] = last_event_id
        try:
            connection.request("GET", address.path, headers=headers)
            response = connection.getresponse()
            if response.status == 204 or 400 <= response.status < 500:
                return
            if response.status != 200:
                # A full or closing pool says how long to wait.
                delay = float(response.getheader("Retry-After") or delay)
                raise ConnectionError(response.status)
            name, data, event_id = "", [], last_event_id
            for line in lines_of(response):
                field, _, value = line.partition(":")
                value = value.removeprefix(" ")
                if line == "":
                    # The id takes effect here, or an event that is cut off would be lost.
                    last_event_id = event_id
                    if data:
                        yield name or "message", "\n".join(data)
                    name, data = "", []
                elif field == "event":
                    name = value
                elif field == "data":
                    data.append(value)
                elif field == "id" and "\0" not in value:
                    event_id = value
                elif field == "retry" and value.isdigit():
                    delay = int(value) / 1000
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(delay)


for event in read(sys.argv[1]):
    print(json.dumps(event), flush=True)
print("null", flush=True)
