"""Listens to topics of an MQTT broker; the newest message of each is the model."""

import json
import ssl
import sys
import threading
import urllib.parse

from paho.mqtt import client as mqtt

import cloister

PORTS = {"mqtt": 1883, "mqtts": 8883}
MOST_TOPICS = 500


class Client(mqtt.Client):
    """A client that reaches its broker through the platform, as everything here does."""

    def _create_socket_connection(self):
        return cloister.connect(self._host, self._port)


def plain(payload):
    text = payload.decode("utf-8", "replace")
    try:
        return json.loads(text)
    except ValueError:
        return text


def main():
    settings = cloister.MODEL
    broker = urllib.parse.urlsplit(settings["broker"])
    topics, state, news = {}, {"count": 0, "last": None}, threading.Event()

    def on_connect(client, _data, _flags, reason, _properties):
        print(f"connected: {reason}", flush=True)
        for topic in settings["topics"].split(","):
            client.subscribe(topic.strip())

    def on_message(_client, _data, message):
        if message.topic in topics or len(topics) < MOST_TOPICS:
            topics[message.topic] = plain(message.payload)
            state["last"] = {"topic": message.topic, "message": topics[message.topic]}
            state["count"] += 1
            news.set()

    client = Client(mqtt.CallbackAPIVersion.VERSION2)
    client.on_connect, client.on_message = on_connect, on_message
    if settings["user"]:
        client.username_pw_set(settings["user"], settings["password"])
    if broker.scheme == "mqtts":
        client.tls_set_context(ssl.create_default_context())
    client.connect(broker.hostname, broker.port or PORTS[broker.scheme])
    client.loop_start()
    while True:
        news.wait()
        news.clear()
        try:
            cloister.output({"topics": dict(topics), **state})
        except cloister.QueryError as error:
            print(f"could not deliver: {error}", file=sys.stderr, flush=True)


main()
