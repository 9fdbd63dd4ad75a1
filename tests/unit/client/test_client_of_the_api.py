from __future__ import annotations

import socket
import threading

import pytest
from tests.unit.client.fake_node import FakeNode

from lambent.client.client import Client
from lambent.client.connection import Connection, resolve_connection
from lambent.client.errors import ApiError, BadConnection, NotReady, Unreachable


def test_every_page_of_a_list_is_read(client: Client, fake_node: FakeNode) -> None:
    for name in ("a", "b", "c", "d", "e"):
        fake_node.add_function(name)
    assert [function["FunctionName"] for function in client.list_functions()] == ["a", "b", "c", "d", "e"]


def test_invoke_hands_over_the_bytes_it_was_given_and_the_ones_that_come_back(
    client: Client, fake_node: FakeNode
) -> None:
    fake_node.add_function("hello")
    result = client.invoke("hello", b'{ "a" :1}', tail=True)
    assert fake_node.events == [("hello", b'{ "a" :1}')]
    assert (result.payload, result.function_error, result.executed_version) == (b'{ "a" :1}', "", "$LATEST")
    assert result.log == "START\nhello\nEND\n"


def test_an_event_is_accepted_without_an_answer(client: Client, fake_node: FakeNode) -> None:
    fake_node.add_function("hello")
    result = client.invoke("hello", kind="Event")
    assert (result.status, result.payload, result.request_id) == (202, b"", "r-1")


def test_a_name_and_a_qualifier_with_special_characters_are_signed_as_they_are_sent(
    client: Client, fake_node: FakeNode
) -> None:
    name = "arn:aws:lambda:eu-central-1:123456789012:function:hello"
    fake_node.add_function(name)
    client.invoke(name, qualifier="$LATEST")
    path = "arn%3Aaws%3Alambda%3Aeu-central-1%3A123456789012%3Afunction%3Ahello"
    assert fake_node.calls == [f"POST /2015-03-31/functions/{path}/invocations?Qualifier=%24LATEST"]


def test_an_error_has_the_contracts_code_message_status_and_request(client: Client) -> None:
    with pytest.raises(ApiError, match="Function not found") as caught:
        client.get_function("nope")
    error = caught.value
    assert (error.code, error.status, error.request_id) == ("ResourceNotFoundException", 404, "r-1")


def test_finding_a_function_that_is_not_there_gives_nothing(client: Client) -> None:
    assert client.find_function("nope") is None


def test_a_key_that_the_node_does_not_know_is_refused(fake_node: FakeNode) -> None:
    stranger = {**fake_node.environ(), "AWS_ACCESS_KEY_ID": "AKIA"}
    with pytest.raises(ApiError) as caught:
        Client(resolve_connection(environ=stranger)).status()
    assert caught.value.code == "UnrecognizedClientException"


def test_without_a_key_requests_go_unsigned(fake_node: FakeNode) -> None:
    unsigned = Client(resolve_connection(environ={"LAMBENT_ENDPOINT": fake_node.endpoint}))
    assert unsigned.health() == {"status": "ok", "version": "0"}
    with pytest.raises(ApiError) as caught:
        unsigned.status()
    assert caught.value.code == "MissingAuthenticationTokenException"


def test_nothing_that_listens_is_told_from_an_error_of_the_node() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    connection = Connection(endpoint=f"http://127.0.0.1:{port}", region="us-east-1", credentials=None, source="test")
    with pytest.raises(Unreachable, match="nothing listens there"):
        Client(connection).status()


def test_a_connection_that_breaks_in_the_middle_of_an_answer_is_no_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer_half() -> None:
            link, _ = server.accept()
            with link:
                link.recv(65_536)
                link.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{")

        thread = threading.Thread(target=answer_half)
        thread.start()
        connection = Connection(
            endpoint=f"http://127.0.0.1:{server.getsockname()[1]}", region="us-east-1", credentials=None, source="test"
        )
        with pytest.raises(Unreachable, match="broke while it answered"):
            Client(connection).status()
        thread.join()


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:notaport", "http://127.0.0.1:99999999"])
def test_an_endpoint_that_is_no_url_is_said_to_be_none(endpoint: str) -> None:
    connection = Connection(endpoint=endpoint, region="us-east-1", credentials=None, source="test")
    with pytest.raises(BadConnection, match=r"cannot be|can be called"):
        Client(connection).status()


def test_waiting_goes_on_until_the_function_is_active(client: Client, fake_node: FakeNode) -> None:
    fake_node.add_function("hello", State="Pending")
    fake_node.polls_until_ready = 2
    assert client.wait_until_ready("hello")["State"] == "Active"
    assert len(fake_node.calls) == 3


def test_waiting_ends_with_the_nodes_reason_when_the_function_failed(client: Client, fake_node: FakeNode) -> None:
    fake_node.add_function("hello", State="Failed", StateReason="the disk is full")
    with pytest.raises(NotReady, match="the disk is full"):
        client.wait_until_ready("hello")


def test_waiting_does_not_go_on_for_ever(client: Client, fake_node: FakeNode) -> None:
    fake_node.add_function("hello", LastUpdateStatus="InProgress")
    with pytest.raises(NotReady, match="still Active, its last update InProgress"):
        client.wait_until_ready("hello", timeout_s=0)


def test_log_lines_come_one_by_one(client: Client, fake_node: FakeNode) -> None:
    lines = [
        {"sequence": n, "timestamp_ms": n, "request_id": "", "kind": "function", "message": f"ä {n}"} for n in range(5)
    ]
    fake_node.log_lines["hello"] = lines
    assert [line["message"] for line in client.logs("hello", since_ms=1, limit=3)] == ["ä 2", "ä 3", "ä 4"]


def test_a_layer_is_published(client: Client) -> None:
    assert client.publish_layer("libs", b"zip", runtimes=["python3.12"])["Version"] == 1
