"""Notes in PostgreSQL: one function behind the routes of an HTTP API."""

import json
import os

import psycopg
from psycopg.rows import dict_row

LONGEST_TEXT = 10_000
SHOWN = "id, text, done, written_at"


class Refused(Exception):
    """What the caller did wrong, and how it is answered."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


class Database:
    """One connection for as long as the environment lives; one that was lost is made anew."""

    def __init__(self, url):
        self._url = url
        self._connection = None
        self.run("CREATE TABLE IF NOT EXISTS notes (id serial PRIMARY KEY, text text NOT NULL,"
                 " done boolean NOT NULL DEFAULT false, written_at timestamptz NOT NULL DEFAULT now())")

    def run(self, statement, *values):
        """The rows, if it gives any."""
        try:
            return self._run(statement, values)
        except psycopg.OperationalError:
            # The server was restarted since the last request: nothing of this statement was done.
            self._connection = None
            return self._run(statement, values)

    def _run(self, statement, values):
        if self._connection is None:
            self._connection = psycopg.connect(self._url, autocommit=True, row_factory=dict_row, connect_timeout=5)
        cursor = self._connection.execute(statement, values)
        return cursor.fetchall() if cursor.description else []


# In init, so that the first request finds it.
database = Database(os.environ["DATABASE_URL"])


def handler(event, context):
    route = ROUTES[event["routeKey"]]
    try:
        status, answer = route(event, event.get("pathParameters") or {})
    except Refused as refused:
        status, answer = refused.status, {"message": str(refused)}
    headers = {"content-type": "application/json"}
    return {"statusCode": status, "headers": headers, "body": json.dumps(answer, default=str)}


def list_notes(event, path):
    query = event.get("queryStringParameters") or {}
    if query.get("done") not in (None, "true", "false"):
        raise Refused(400, "done must be true or false")
    if "done" in query:
        return 200, database.run(f"SELECT {SHOWN} FROM notes WHERE done = %s ORDER BY id", query["done"] == "true")
    return 200, database.run(f"SELECT {SHOWN} FROM notes ORDER BY id")


def add_note(event, path):
    return 201, database.run(f"INSERT INTO notes (text) VALUES (%s) RETURNING {SHOWN}", read_text(event))[0]


def get_note(event, path):
    return 200, only(database.run(f"SELECT {SHOWN} FROM notes WHERE id = %s", read_id(path)))


def change_note(event, path):
    body = read_body(event)
    done = body.get("done", False)
    if not isinstance(done, bool):
        raise Refused(400, "done must be true or false")
    values = read_text(event), done, read_id(path)
    return 200, only(database.run(f"UPDATE notes SET text = %s, done = %s WHERE id = %s RETURNING {SHOWN}", *values))


def remove_note(event, path):
    return 200, only(database.run(f"DELETE FROM notes WHERE id = %s RETURNING {SHOWN}", read_id(path)))


def read_body(event):
    try:
        body = json.loads(event.get("body") or "")
    except ValueError:
        raise Refused(400, "the body must be JSON") from None
    if not isinstance(body, dict):
        raise Refused(400, "the body must be an object")
    return body


def read_text(event):
    text = read_body(event).get("text")
    if not isinstance(text, str) or not 1 <= len(text) <= LONGEST_TEXT or "\0" in text:
        raise Refused(400, f"text must be a text of 1 to {LONGEST_TEXT} characters")
    return text


def read_id(path):
    number = path["id"]
    # Beyond what the column holds there is no note either.
    if not (number.isascii() and number.isdigit() and int(number) < 2**31):
        raise Refused(404, f"there is no note {number}")
    return int(number)


def only(rows):
    if not rows:
        raise Refused(404, "there is no such note")
    return rows[0]


ROUTES = {
    "GET /notes": list_notes,
    "POST /notes": add_note,
    "GET /notes/{id}": get_note,
    "PUT /notes/{id}": change_note,
    "DELETE /notes/{id}": remove_note,
}
