"""Azure Functions' Python v2 applications (`azure.functions.FunctionApp`) as handlers.

HTTP triggers serve requests, timers scheduled events of the bus, queue triggers records of the SQS queue of that name,
blob triggers S3 records (the container is the bucket). Outputs go to the queue and the bucket of that name.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import sys
import threading
import traceback
import uuid
from typing import Any, Dict, List, NamedTuple, Optional, Pattern
from urllib.parse import parse_qsl, unquote, unquote_plus

from lambent.dataplane.runtime.applications.requests import (
    NotHttp,
    Request,
    Response,
    read_request,
    write_response,
)

KEY_VARIABLE = "FUNCTIONS_KEY"
"""What callers must send as x-functions-key, or `?code=`, to functions whose level is not anonymous."""
_HTTP, _TIMER, _QUEUE, _BLOB = "httpTrigger", "timerTrigger", "queueTrigger", "blobTrigger"
_PARAMETER = re.compile(r"\{(\*?)([\w-]+)(?::([^}=?]+))?(\?|=[^}]*)?\}")
_CONSTRAINTS = {
    "int": r"-?\d+",
    "long": r"-?\d+",
    "alpha": "[A-Za-z]+",
    "bool": "[Tt]rue|[Ff]alse",
    "guid": "[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}",
}


class NoSuchFunction(Exception):
    """No function of the application has a trigger that fits the event."""


class Function(NamedTuple):
    name: str
    call: Any
    trigger: Dict[str, Any]
    bindings: List[Dict[str, Any]]
    """All but the trigger, as a function.json has them."""
    parameters: Dict[str, inspect.Parameter]
    route: Optional[Pattern[str]]
    methods: List[str]
    """Empty for all."""
    is_open: bool
    """Of the anonymous level."""


class AzureHandler:
    def __init__(self, app: Any) -> None:
        self._app = app
        self._functions: List[Function] = []
        self._loop: Any = None

    def startup(self) -> None:
        prefix = _read_prefix()
        self._functions = [_describe(each, prefix) for each in self._app.get_functions()]
        # The most literal route first, as Azure has it.
        self._functions.sort(key=lambda each: str(each.trigger.get("route") or each.name).count("{"))

    def __call__(self, event: Any, context: Any) -> Any:
        if not self._functions:
            self.startup()
        try:
            request = read_request(event)
        except NotHttp:
            request = None
        if request is not None:
            return write_response(request, self._serve(request, event, context))
        for function, given, names in self._find_events(event):
            self._run(function, given, names, context)
        return None

    def _serve(self, request: Request, event: Any, context: Any) -> Response:
        found, refused = None, False
        for each in self._functions:
            matched = each.route.fullmatch(request.raw_path) if each.route is not None else None
            if matched is None:
                continue
            if not each.methods or request.method in each.methods:
                found = (each, {name: unquote(value) for name, value in matched.groupdict().items() if value})
                break
            refused = True
        if found is None:
            return Response(405 if refused else 404, [], b"")
        function, names = found
        parameters = dict(parse_qsl(request.query, keep_blank_values=True))
        if not function.is_open and not _may_call(request, parameters, event):
            return Response(401, [], b"")
        azure: Any = importlib.import_module("azure.functions")
        given = azure.HttpRequest(
            request.method,
            "{}://{}{}".format(request.scheme, dict(request.headers).get("host", request.host), request.root_path)
            + request.raw_path
            + ("?" + request.query if request.query else ""),
            headers=dict(request.headers),
            params=parameters,
            route_params=names,
            body=request.body,
        )
        try:
            return _read_response(self._run(function, given, names, context))
        except Exception:
            traceback.print_exc(file=sys.stderr)
            return Response(500, [], b"")

    def _find_events(self, event: Any) -> Any:
        """Function, what its trigger gives, and the names that its bindings may use."""
        azure: Any = importlib.import_module("azure.functions")
        records = event.get("Records") if isinstance(event, dict) else None
        for record in records if isinstance(records, list) else ():
            if record.get("eventSource") == "aws:sqs":
                yield self._read_message(record)
            elif record.get("eventSource") == "aws:s3":
                yield self._read_blob(record)
            else:
                raise NoSuchFunction("no trigger is for records of {}".format(record.get("eventSource")))
        if not records:
            timers = [each for each in self._functions if each.trigger["type"] == _TIMER]
            named = [each for each in timers if each.name in _names_of(event)]
            if len(named or timers) != 1:
                raise NoSuchFunction(
                    "the event is no request, message, object or schedule of this application"
                    if not timers
                    else 'there are several timers: name the rule as one, or send {{"function": NAME}}: {}'.format(
                        ", ".join(each.name for each in timers)
                    )
                )
            yield (named or timers)[0], azure_timer(azure), {}

    def _read_message(self, record: Dict[str, Any]) -> Any:
        queue = record["eventSourceARN"].rpartition(":")[2]
        found = [
            each
            for each in self._functions
            if each.trigger["type"] == _QUEUE and _resolve(each.trigger["queueName"], {}) == queue
        ]
        if not found:
            raise NoSuchFunction("no queue trigger has the queue {}".format(queue))
        module: Any = importlib.import_module("azure.functions.queue")
        attributes = record.get("attributes") or {}
        message = module.QueueMessage(
            id=record["messageId"],
            body=record["body"],
            dequeue_count=int(attributes.get("ApproximateReceiveCount", 1)),
            insertion_time=_read_time(attributes.get("SentTimestamp")),
            pop_receipt=record.get("receiptHandle"),
        )
        names = {"queueTrigger": record["body"], "Id": record["messageId"]}
        try:
            told = json.loads(record["body"])
        except ValueError:
            told = None
        if isinstance(told, dict):
            names.update({name: str(value) for name, value in told.items()})
        function = found[0]
        wanted = _annotation(function, function.trigger["name"])
        return function, _as_wanted(wanted, record["body"].encode(), message), names

    def _read_blob(self, record: Dict[str, Any]) -> Any:
        bucket, key = record["s3"]["bucket"]["name"], unquote_plus(record["s3"]["object"]["key"])
        for function in self._functions:
            if function.trigger["type"] != _BLOB:
                continue
            matched = _compile(_resolve(function.trigger["path"], {}), is_path=False).fullmatch(bucket + "/" + key)
            if matched is not None:
                data = _read_object(bucket, key)
                stream = _make_stream(bucket, key, data)
                names = {**matched.groupdict(), "blobTrigger": bucket + "/" + key}
                return function, _as_wanted(_annotation(function, function.trigger["name"]), data, stream), names
        raise NoSuchFunction("no blob trigger has the path {}/{}".format(bucket, key))

    def _run(self, function: Function, given: Any, names: Dict[str, str], context: Any) -> Any:
        arguments = {function.trigger["name"]: given}
        outputs: Dict[str, _Out] = {}
        returned: Optional[Dict[str, Any]] = None
        for binding in function.bindings:
            name, kind = binding["name"], binding["type"]
            if name == "$return":
                returned = binding if kind != "http" else None
            elif binding["is_output"]:
                outputs[name] = _Out()
                arguments[name] = outputs[name]
            elif kind == "blob":
                bucket, _, key = _resolve(binding["path"], names).partition("/")
                data = _read_object(bucket, key)
                arguments[name] = _as_wanted(_annotation(function, name), data, _make_stream(bucket, key, data))
            else:
                raise NoSuchFunction("{}: bindings of type {} are not served".format(function.name, kind))
        if "context" in function.parameters and "context" not in arguments:
            arguments["context"] = InvocationContext(function.name, context)
        result = function.call(**arguments)
        if inspect.iscoroutine(result):
            result = self._get_loop().run_until_complete(result)
        for binding in function.bindings:
            out = outputs.get(binding["name"])
            if out is not None and out.get() is not None:
                _write(binding, out.get(), names)
        if returned is not None and result is not None:
            _write(returned, result, names)
            return None
        return result

    def _get_loop(self) -> Any:
        if self._loop is None:
            # Here: most applications have no async function.
            import asyncio  # noqa: PLC0415

            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
        return self._loop


class InvocationContext:
    """What functions get as `context`."""

    def __init__(self, name: str, context: Any) -> None:
        self.invocation_id = context.aws_request_id
        self.function_name = name
        self.function_directory = os.environ.get("LAMBDA_TASK_ROOT", os.getcwd())
        self.thread_local_storage = threading.local()
        self.trace_context = None
        self.retry_context = None
        self.aws_context = context


class _Out:
    _value: Any = None

    def set(self, val: Any) -> None:
        self._value = val

    def get(self) -> Any:
        return self._value


def adapt_app(app: Any) -> Optional[AzureHandler]:
    """None for what is no application of Azure's library."""
    if not any(each.__module__.startswith("azure.functions") for each in type(app).__mro__):
        return None
    return AzureHandler(app) if hasattr(app, "get_functions") else None


def azure_timer(azure: Any) -> Any:
    return importlib.import_module(azure.__name__ + ".timer").TimerRequest(past_due=False)


def _describe(built: Any, prefix: str) -> Function:
    call = built.get_user_function()
    trigger: Dict[str, Any] = {}
    bindings = []
    for each in built.get_bindings():
        told = dict(each.get_dict_repr())
        told["is_output"] = getattr(told["direction"], "value", told["direction"]) == 1
        if told["type"].endswith("Trigger"):
            trigger = told
        else:
            bindings.append(told)
    name = built.get_function_name()
    route, level = None, ""
    if trigger.get("type") == _HTTP:
        path = "/".join(part for part in (prefix, (trigger.get("route") or name).strip("/")) if part)
        route = _compile("/" + path, is_path=True)
        level = str(getattr(trigger.get("authLevel"), "value", trigger.get("authLevel") or "function")).lower()
    elif trigger.get("type") not in (_TIMER, _QUEUE, _BLOB):
        print("{}: triggers of type {} are not served".format(name, trigger.get("type")), file=sys.stderr)
    methods = [str(getattr(each, "value", each)).upper() for each in trigger.get("methods") or ()]
    parameters = dict(inspect.signature(call).parameters)
    return Function(name, call, trigger, bindings, parameters, route, methods, level == "anonymous")


def _compile(template: str, *, is_path: bool) -> Pattern[str]:
    """`items/{id:int}/{*rest}`; of a blob's path a parameter may have slashes, as on Azure."""
    pattern, at = "", 0
    for found in _PARAMETER.finditer(template):
        is_rest, name, constraint, optional = found.groups()
        text = re.escape(template[at : found.start()])
        group = "(?P<{}>{})".format(
            name.replace("-", "_"),
            ".*" if is_rest or not is_path else _CONSTRAINTS.get(constraint or "", "[^/]+"),
        )
        if (optional or is_rest) and text.endswith("/"):
            pattern += text[:-1] + "(?:/" + group + ")?"
        else:
            pattern += text + group
        at = found.end()
    pattern += re.escape(template[at:])
    return re.compile(pattern + ("/?" if is_path else ""), re.IGNORECASE if is_path else 0)


def _read_prefix() -> str:
    """host.json's; `api` where it says nothing."""
    try:
        with open(os.path.join(os.environ.get("LAMBDA_TASK_ROOT", "."), "host.json"), encoding="utf-8") as file:
            return str(json.load(file)["extensions"]["http"]["routePrefix"]).strip("/")
    except (OSError, ValueError, KeyError, TypeError):
        return "api"


def _may_call(request: Request, parameters: Dict[str, str], event: Any) -> bool:
    """With the key, or as somebody whom the front door has let in."""
    if (event.get("requestContext") or {}).get("authorizer"):
        return True
    key = os.environ.get(KEY_VARIABLE, "")
    if not key:
        print("The function's level is not anonymous: set {} to the key of its callers.".format(KEY_VARIABLE))
        return False
    given = dict(request.headers).get("x-functions-key") or parameters.get("code") or ""
    return bool(importlib.import_module("hmac").compare_digest(given.encode(), key.encode()))


def _read_response(result: Any) -> Response:
    if result is None:
        return Response(204, [], b"")
    if isinstance(result, (str, bytes)):
        data = result.encode() if isinstance(result, str) else result
        return Response(200, [("content-type", "text/plain; charset=utf-8")], data)
    headers = [(name.lower(), str(value)) for name, value in result.headers.items()]
    if "content-type" not in dict(headers):
        headers.append(("content-type", "{}; charset={}".format(result.mimetype, result.charset)))
    return Response(int(result.status_code), headers, bytes(result.get_body()))


def _names_of(event: Any) -> List[str]:
    """Of functions that an event names: as such, or by the rule or schedule that sent it."""
    if not isinstance(event, dict):
        return []
    return [str(event.get("function", "")), *(str(arn).rpartition("/")[2] for arn in event.get("resources") or ())]


def _annotation(function: Function, name: str) -> Any:
    parameter = function.parameters.get(name)
    return parameter.annotation if parameter is not None else None


def _as_wanted(wanted: Any, data: bytes, rich: Any) -> Any:
    if wanted in (str, "str"):
        return data.decode("utf-8")
    return data if wanted in (bytes, "bytes") else rich


def _read_time(text: Optional[str]) -> Any:
    if not text:
        return None
    datetime: Any = importlib.import_module("datetime")
    return datetime.datetime.fromtimestamp(int(text) / 1000, datetime.timezone.utc)


def _make_stream(bucket: str, key: str, data: bytes) -> Any:
    module: Any = importlib.import_module("azure.functions.blob")
    return module.InputStream(data=data, name=bucket + "/" + key, uri="s3://" + bucket + "/" + key, length=len(data))


def _resolve(text: str, names: Dict[str, str]) -> str:
    """`%VARIABLE%` and `{name}`."""
    text = re.sub("%([^%]+)%", lambda found: os.environ.get(found[1], found[0]), text)
    known = {"rand-guid": str(uuid.uuid4()), **names}
    return re.sub(r"\{([\w-]+)\}", lambda found: known.get(found[1], found[0]), text) if names else text


def _write(binding: Dict[str, Any], value: Any, names: Dict[str, str]) -> None:
    if binding["type"] == "queue":
        sqs = _connect("sqs")
        url = sqs.get_queue_url(QueueName=_resolve(binding["queueName"], names))["QueueUrl"]
        for each in value if isinstance(value, (list, tuple)) else [value]:
            sqs.send_message(QueueUrl=url, MessageBody=_as_bytes(each).decode("utf-8"))
    elif binding["type"] == "blob":
        bucket, _, key = _resolve(binding["path"], {"": "", **names}).partition("/")
        _connect("s3").put_object(Bucket=bucket, Key=key, Body=_as_bytes(value))
    else:
        raise NoSuchFunction("outputs of type {} are not served".format(binding["type"]))


def _as_bytes(value: Any) -> bytes:
    if hasattr(value, "get_body"):
        value = value.get_body()
    elif hasattr(value, "read"):
        value = value.read()
    if isinstance(value, str):
        return value.encode()
    return bytes(value) if isinstance(value, (bytes, bytearray)) else json.dumps(value).encode()


def _read_object(bucket: str, key: str) -> bytes:
    return bytes(_connect("s3").get_object(Bucket=bucket, Key=key)["Body"].read())


def _connect(service: str) -> Any:
    boto3: Any = importlib.import_module("boto3")
    return boto3.client(service)
