"""Functions of Google's functions-framework as handlers: http, cloudevent, typed and background.

The framework itself makes the web application of a function, so that requests, errors and answers are its own. Events
of ours that are no requests become CloudEvents, which the framework makes background events of where a function wants
them.
"""

from __future__ import annotations

import base64
import importlib
import inspect
import json
import os
import sys
from typing import Any, Dict, List, Optional

from lambent.dataplane.runtime.applications.asgi import AsgiHandler
from lambent.dataplane.runtime.applications.requests import NotHttp, read_request
from lambent.dataplane.runtime.applications.wsgi import WsgiHandler

_CONVERTED = (
    "google.cloud.pubsub.topic.v1.messagePublished",
    "google.cloud.storage.object.v1.deleted",
    "google.cloud.storage.object.v1.finalized",
)
"""What the framework makes background events of."""
_PUBSUB = "google.cloud.pubsub.topic.v1.messagePublished"


class FunctionFailed(Exception):
    """The function answered an event with an error; its own is in the log."""


class GoogleHandler:
    """`startup` is the web application's; each call serves a request, or the records of an event."""

    def __init__(self, app: Any, signature: str) -> None:
        self._signature = signature
        self._app: Any = WsgiHandler(app) if hasattr(app, "wsgi_app") else AsgiHandler(app, is_second_version=False)

    def startup(self) -> None:
        self._app.startup()

    def __call__(self, event: Any, context: Any) -> Any:
        try:
            read_request(event)
            return self._app(event, context)
        except NotHttp:
            if self._signature == "http":
                raise
        if self._signature == "typed":
            return self._post({"content-type": "application/json"}, event, context)
        for each in to_cloud_events(event, context):
            self._deliver(each, context)
        return None

    def _deliver(self, event: Dict[str, Any], context: Any) -> None:
        if self._signature == "event" and event["type"] not in _CONVERTED:
            told = {
                "eventId": event["id"],
                "timestamp": event.get("time", ""),
                "eventType": event["type"],
                "resource": event["source"],
            }
            self._post({"content-type": "application/json"}, {"context": told, "data": event.get("data")}, context)
            return
        headers = {"ce-" + name: str(value) for name, value in event.items() if name not in ("data", "datacontenttype")}
        headers["content-type"] = event.get("datacontenttype", "application/json")
        self._post(headers, event.get("data"), context)

    def _post(self, headers: Dict[str, str], document: Any, context: Any) -> Any:
        request = {
            "version": "2.0",
            "rawPath": "/",
            "headers": {**headers, "host": "localhost"},
            "requestContext": {"http": {"method": "POST", "path": "/"}},
            "body": json.dumps(document),
        }
        answer = self._app(request, _Whole(context))
        data = base64.b64decode(answer["body"]) if answer["isBase64Encoded"] else answer["body"].encode()
        if answer["statusCode"] >= 400:
            raise FunctionFailed("{}: {}".format(answer["statusCode"], data[:1000].decode("utf-8", "replace")))
        try:
            return json.loads(data)
        except ValueError:
            return data.decode("utf-8", "replace") or None


class _Whole:
    """A context whose answer does not stream: it is for us."""

    streams_response = False

    def __init__(self, context: Any) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


def adapt_function(function: Any, name: str) -> Optional[GoogleHandler]:
    """A function of `functions_framework`: registered by its decorators, or told by FUNCTION_SIGNATURE_TYPE, or by its
    parameters as Google's documents name them. None for what is none."""
    framework: Any = sys.modules.get("functions_framework")
    if framework is None:
        if not inspect.isfunction(function) or not _guess_signature(function):
            return None
        try:
            framework = importlib.import_module("functions_framework")
        except ImportError:
            return None
    registry = importlib.import_module("functions_framework._function_registry")
    signature = registry.REGISTRY_MAP.get(name)
    if not signature and inspect.isfunction(function):
        signature = os.environ.get("FUNCTION_SIGNATURE_TYPE") or _guess_signature(function)
    if not signature:
        return None
    os.environ.setdefault("FUNCTION_TARGET", name)
    os.environ.setdefault("K_SERVICE", os.environ.get("AWS_LAMBDA_FUNCTION_NAME", name))
    os.environ.setdefault("K_REVISION", os.environ.get("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"))
    return GoogleHandler(_make_app(framework, registry, function, name, signature), signature)


def _guess_signature(function: Any) -> str:
    names = [each.strip("_") for each in inspect.signature(function).parameters]
    if names in (["request"], ["req"]):
        return "http"
    if names in (["cloud_event"], ["cloudevent"]):
        return "cloudevent"
    if names in (["data", "context"], ["event", "context"]):
        return "event"
    return ""


def _make_app(framework: Any, registry: Any, function: Any, name: str, signature: str) -> Any:
    """As the framework's create_app does once it has loaded the module, which here is loaded already."""
    source = os.path.abspath(sys.modules[function.__module__].__file__ or "main.py")
    if name in getattr(registry, "ASGI_FUNCTIONS", ()):
        aio = importlib.import_module("functions_framework.aio")
        return aio.create_asgi_app_from_module(name, source, signature, _Loaded(function, name), None)
    flask = importlib.import_module("flask")
    app = flask.Flask(name, template_folder=os.path.join(os.path.dirname(source), "templates"))
    app.register_error_handler(500, framework.crash_handler)
    framework.errorhandler = app.errorhandler
    execution_id = sys.modules.get("functions_framework.execution_id")
    if execution_id is not None:
        app.wsgi_app = execution_id.WsgiMiddleware(app.wsgi_app)
    framework._configure_app(app, function, signature)
    return app


class _Loaded:
    """The module of an async function, for what looks up the function in it."""

    def __init__(self, function: Any, name: str) -> None:
        setattr(self, name, function)


def to_cloud_events(event: Any, context: Any) -> List[Dict[str, Any]]:
    """Records one by one: objects as Cloud Storage's, messages as Pub/Sub's. All else is one event with it as data."""
    if isinstance(event, dict) and "specversion" in event and "type" in event:
        return [event]
    records = event.get("Records") if isinstance(event, dict) else None
    if isinstance(records, list) and records:
        return [_from_record(each, context) for each in records]
    if isinstance(event, dict) and "detail-type" in event:
        return [
            _make(
                context,
                event["detail-type"],
                event.get("source", ""),
                event.get("detail"),
                event.get("id"),
                time=event.get("time"),
            )
        ]
    return [_make(context, "lambent.invocation", _name(context), event)]


def _from_record(record: Dict[str, Any], context: Any) -> Dict[str, Any]:
    source = record.get("eventSource") or record.get("EventSource") or ""
    if source == "aws:s3":
        return _from_object(record, context)
    if source == "aws:sqs":
        attributes = {
            name: each.get("stringValue", "") for name, each in (record.get("messageAttributes") or {}).items()
        }
        return _from_message(context, record["eventSourceARN"], record["messageId"], record["body"], attributes)
    if source == "aws:sns":
        sns = record["Sns"]
        attributes = {name: each.get("Value", "") for name, each in (sns.get("MessageAttributes") or {}).items()}
        return _from_message(
            context, sns["TopicArn"], sns["MessageId"], sns["Message"], attributes, time=sns.get("Timestamp")
        )
    return _make(context, "lambent.record", source or _name(context), record, record.get("eventID"))


def _from_object(record: Dict[str, Any], context: Any) -> Dict[str, Any]:
    s3 = record["s3"]
    bucket, key = s3["bucket"]["name"], s3["object"]["key"]
    is_removed = "ObjectRemoved" in record.get("eventName", "")
    unquote = importlib.import_module("urllib.parse").unquote_plus
    made = _make(
        context,
        "google.cloud.storage.object.v1." + ("deleted" if is_removed else "finalized"),
        "//storage.googleapis.com/projects/_/buckets/" + bucket,
        {
            "kind": "storage#object",
            "bucket": bucket,
            "name": unquote(key),
            "size": str(s3["object"].get("size", 0)),
            "etag": s3["object"].get("eTag", ""),
            "generation": s3["object"].get("versionId", ""),
            "timeCreated": record.get("eventTime", ""),
            "updated": record.get("eventTime", ""),
        },
        time=record.get("eventTime"),
    )
    made["subject"] = "objects/" + unquote(key)
    made["id"] = "{}-{}".format(context.aws_request_id, s3["object"].get("sequencer", ""))
    return made


def _from_message(
    context: Any, arn: str, message_id: str, body: str, attributes: Dict[str, str], *, time: Optional[str] = None
) -> Dict[str, Any]:
    topic = arn.rpartition(":")[2]
    message = {
        "@type": "type.googleapis.com/google.pubsub.v1.PubsubMessage",
        "data": base64.b64encode(body.encode()).decode(),
        "messageId": message_id,
        "attributes": attributes,
    }
    if time:
        message["publishTime"] = time
    data = {"message": message, "subscription": "projects/_/subscriptions/" + topic}
    return _make(context, _PUBSUB, "//pubsub.googleapis.com/projects/_/topics/" + topic, data, message_id, time=time)


def _make(
    context: Any, kind: str, source: str, data: Any, event_id: Optional[str] = None, *, time: Optional[str] = None
) -> Dict[str, Any]:
    made = {
        "specversion": "1.0",
        "id": event_id or context.aws_request_id,
        "type": kind,
        "source": source or _name(context),
        "datacontenttype": "application/json",
        "data": data,
    }
    if time:
        made["time"] = time
    return made


def _name(context: Any) -> str:
    return str(context.invoked_function_arn)
