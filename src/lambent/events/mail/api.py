"""The operations of the SES wire that Lambent serves: sending, and receipt rules (API reference, 2010-12-01)."""

from __future__ import annotations

import email
import email.policy
import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import getaddresses, parseaddr
from typing import Any

import msgspec

from lambent.awsapi.context import Operation, RequestContext
from lambent.events.deliveries import Deliveries
from lambent.events.mail import rules, store
from lambent.events.mail.rules import Action, Rule, RuleSet
from lambent.events.mail.sending import MailRoom
from lambent.model.errors import CallerError
from lambent.substrate.ports import Connection, Tables

MOST_BYTES = 10_485_760
MOST_RECIPIENTS = 50
MOST_RULES = 200
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_REPLY_CODE = re.compile(r"[45][0-9]{2}")
_UNSERVED = {"WorkmailAction": "there is no WorkMail here", "ConnectAction": "there is no Connect here"}

ActionReader = Callable[[dict[str, Any]], Action]


class MailOperations:
    def __init__(
        self, tables: Tables, room: MailRoom, deliveries: Deliveries, *, now: Callable[[], float] = time.time
    ) -> None:
        self._tables = tables
        self._room = room
        self._deliveries = deliveries
        self._now = now

    def operations(self) -> Mapping[str, Operation]:
        return {
            "CreateReceiptRule": self.create_rule,
            "CreateReceiptRuleSet": self.create_rule_set,
            "DeleteReceiptRule": self.delete_rule,
            "DeleteReceiptRuleSet": self.delete_rule_set,
            "DescribeActiveReceiptRuleSet": self.describe_active_rule_set,
            "DescribeReceiptRule": self.describe_rule,
            "DescribeReceiptRuleSet": self.describe_rule_set,
            "ListReceiptRuleSets": self.list_rule_sets,
            "SendEmail": self.send,
            "SendRawEmail": self.send_raw,
            "SetActiveReceiptRuleSet": self.set_active_rule_set,
            "UpdateReceiptRule": self.update_rule,
        }

    async def send(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        destination, given = parameters["Destination"], parameters["Message"]
        to, cc = destination.get("ToAddresses", []), destination.get("CcAddresses", [])
        recipients = _mailboxes([*to, *cc, *destination.get("BccAddresses", [])])
        message = EmailMessage()
        try:
            message["From"] = parameters["Source"]
            message["Subject"] = given["Subject"]["Data"]
            for header, addresses in (("To", to), ("Cc", cc), ("Reply-To", parameters.get("ReplyToAddresses", []))):
                if addresses:
                    message[header] = ", ".join(addresses)
        except ValueError as exc:
            # A line break within a header would be another header.
            raise CallerError("InvalidParameterValue", f"A header cannot be written: {exc}") from exc
        text, html = given["Body"].get("Text"), given["Body"].get("Html")
        if text is None and html is None:
            raise CallerError("InvalidParameterValue", "Message.Body must have Text or Html.")
        if text is not None:
            message.set_content(text["Data"])
        if html is not None:
            add = message.set_content if text is None else message.add_alternative
            add(html["Data"], subtype="html")
        sender = parseaddr(parameters.get("ReturnPath") or parameters["Source"])[1]
        return {"MessageId": await self._room.post(context.account, sender, recipients, message)}

    async def send_raw(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        raw = parameters["RawMessage"]["Data"]
        if len(raw) > MOST_BYTES:
            raise CallerError("InvalidParameterValue", f"The message is longer than {MOST_BYTES} bytes.")
        message = email.message_from_bytes(raw, policy=email.policy.default)
        try:
            source = parameters.get("Source") or str(message.get("return-path") or message.get("from") or "")
            stated = [str(value) for name in ("to", "cc", "bcc") for value in message.get_all(name, [])]
        except (ValueError, IndexError) as exc:
            raise CallerError("InvalidParameterValue", f"The message's addresses cannot be read: {exc}") from exc
        recipients = _mailboxes(parameters.get("Destinations") or stated)
        del message["bcc"]
        sender = parseaddr(source)[1]
        return {"MessageId": await self._room.post(context.account, sender, recipients, message)}

    async def create_rule_set(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        name = _check_name(parameters["RuleSetName"], "RuleSetName")
        made = RuleSet(account=context.account, region=context.region, name=name, created_at=self._now())

        def work(connection: Connection) -> None:
            if store.get(connection, context.account, name) is not None:
                raise CallerError("AlreadyExists", f"Rule set already exists: {name}")
            store.put(connection, made)

        await self._tables.write(work)
        return {}

    async def delete_rule_set(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        name = parameters["RuleSetName"]

        def work(connection: Connection) -> None:
            found = store.get(connection, context.account, name)
            if found is not None and found.active:
                raise CallerError("CannotDelete", f"Cannot delete active rule set: {name}")
            store.delete(connection, context.account, name)

        await self._tables.write(work)
        return {}

    async def list_rule_sets(self, context: RequestContext, _parameters: dict[str, Any]) -> Mapping[str, Any]:
        found = await self._tables.read(lambda connection: store.list_all(connection, context.account))
        return {"RuleSets": [_metadata(rule_set) for rule_set in found]}

    async def set_active_rule_set(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        name = parameters.get("RuleSetName")

        def work(connection: Connection) -> None:
            if name is not None and store.get(connection, context.account, name) is None:
                raise _no_rule_set(name)
            for rule_set in store.list_all(connection, context.account):
                if rule_set.active != (rule_set.name == name):
                    store.put(connection, msgspec.structs.replace(rule_set, active=rule_set.name == name))

        await self._tables.write(work)
        return {}

    async def describe_active_rule_set(self, context: RequestContext, _parameters: dict[str, Any]) -> Mapping[str, Any]:
        for rule_set in await self._tables.read(lambda connection: store.list_all(connection, context.account)):
            if rule_set.active:
                return {"Metadata": _metadata(rule_set), "Rules": [show_rule(rule) for rule in rule_set.rules]}
        return {}

    async def describe_rule_set(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        found = await self._rule_set(context, parameters["RuleSetName"])
        return {"Metadata": _metadata(found), "Rules": [show_rule(rule) for rule in found.rules]}

    async def describe_rule(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        found = await self._rule_set(context, parameters["RuleSetName"])
        return {"Rule": show_rule(found.rules[_place(found, parameters["RuleName"])])}

    async def create_rule(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        rule = await self._read_rule(context, parameters["Rule"])
        after = parameters.get("After")

        def change(rule_set: RuleSet) -> tuple[Rule, ...]:
            if any(other.name == rule.name for other in rule_set.rules):
                raise CallerError("AlreadyExists", f"Rule already exists: {rule.name}")
            if len(rule_set.rules) >= MOST_RULES:
                raise CallerError("LimitExceeded", f"A rule set can have {MOST_RULES} rules.")
            at = _place(rule_set, after) + 1 if after is not None else 0
            return (*rule_set.rules[:at], rule, *rule_set.rules[at:])

        await self._change(context, parameters["RuleSetName"], rule, change)
        return {}

    async def update_rule(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        rule = await self._read_rule(context, parameters["Rule"])

        def change(rule_set: RuleSet) -> tuple[Rule, ...]:
            at = _place(rule_set, rule.name)
            return (*rule_set.rules[:at], rule, *rule_set.rules[at + 1 :])

        await self._change(context, parameters["RuleSetName"], rule, change)
        return {}

    async def delete_rule(self, context: RequestContext, parameters: dict[str, Any]) -> Mapping[str, Any]:
        name = parameters["RuleName"]

        def change(rule_set: RuleSet) -> tuple[Rule, ...]:
            return tuple(rule for rule in rule_set.rules if rule.name != name)

        await self._change(context, parameters["RuleSetName"], None, change)
        return {}

    async def _change(
        self,
        context: RequestContext,
        name: str,
        rule: Rule | None,
        change: Callable[[RuleSet], tuple[Rule, ...]],
    ) -> None:
        def work(connection: Connection) -> None:
            rule_set = store.get(connection, context.account, name)
            if rule_set is None:
                raise _no_rule_set(name)
            if rule is not None:
                _check_nobody_elses(rule, store.list_of_others(connection, context.account))
            store.put(connection, msgspec.structs.replace(rule_set, rules=change(rule_set)))

        await self._tables.write(work)

    async def _rule_set(self, context: RequestContext, name: str) -> RuleSet:
        found = await self._tables.read(lambda connection: store.get(connection, context.account, name))
        if found is None:
            raise _no_rule_set(name)
        return found

    async def _read_rule(self, context: RequestContext, given: dict[str, Any]) -> Rule:
        recipients = tuple(given.get("Recipients", ()))
        if not recipients:
            raise CallerError("InvalidParameterValue", "Rule.Recipients must name addresses or domains.")
        for recipient in recipients:
            if not (rules.ADDRESS if "@" in recipient else rules.DOMAIN).fullmatch(recipient):
                raise CallerError("InvalidParameterValue", f"Not a valid recipient: {recipient}")
        actions = tuple(read_action(action) for action in given.get("Actions", ()))
        for action in actions:
            for target in (action.target if action.kind in ("lambda", "sns") else "", action.topic):
                if target:
                    await self._check_target(context, action.kind, target)
        return Rule(
            name=_check_name(given["Name"], "Rule.Name"),
            recipients=recipients,
            actions=actions,
            enabled=given.get("Enabled", False),
            tls_required=given.get("TlsPolicy") == "Require",
        )

    async def _check_target(self, context: RequestContext, kind: str, target: str) -> None:
        code = "InvalidLambdaFunction" if kind == "lambda" and ":lambda:" in target else "InvalidSnsTopic"
        try:
            await self._deliveries.check(context.account, target)
        except CallerError as exc:
            raise CallerError(code, exc.message) from exc


def read_action(given: dict[str, Any]) -> Action:
    """Raises CallerError for one that is not served, or for more than one in one."""
    if len(given) != 1:
        raise CallerError("InvalidParameterValue", "An action must be of exactly one kind.")
    ((kind, fields),) = given.items()
    if kind in _UNSERVED:
        raise CallerError("InvalidParameterValue", f"{kind} is not served: {_UNSERVED[kind]}.")
    topic = fields.get("TopicArn", "")
    if kind == "LambdaAction":
        if fields.get("InvocationType", "Event") != "Event":
            raise CallerError("InvalidParameterValue", "LambdaAction.InvocationType must be Event.")
        return Action(kind="lambda", target=fields["FunctionArn"], topic=topic)
    if kind == "S3Action":
        if "KmsKeyArn" in fields:
            raise CallerError("InvalidParameterValue", "S3Action.KmsKeyArn: there is no key management here.")
        return Action(kind="s3", target=fields["BucketName"], prefix=fields.get("ObjectKeyPrefix", ""), topic=topic)
    if kind == "SNSAction":
        return Action(kind="sns", target=fields["TopicArn"], encoding=fields.get("Encoding", "UTF-8"))
    if kind == "BounceAction":
        text = fields["Message"]
        if not _REPLY_CODE.fullmatch(fields["SmtpReplyCode"]) or "\r" in text or "\n" in text:
            raise CallerError("InvalidParameterValue", "BounceAction: an SMTP reply is a code 4xx or 5xx and one line.")
        return Action(kind="bounce", smtp_code=fields["SmtpReplyCode"], text=text, topic=topic)
    if kind == "StopAction":
        return Action(kind="stop", topic=topic)
    header, value = fields["HeaderName"], fields["HeaderValue"]
    if not re.fullmatch(r"[A-Za-z0-9-]{1,50}", header) or "\r" in value or "\n" in value or len(value) > 2048:
        raise CallerError("InvalidParameterValue", "AddHeaderAction: not a header.")
    return Action(kind="add-header", header=header, text=value)


def show_rule(rule: Rule) -> dict[str, Any]:
    return {
        "Name": rule.name,
        "Enabled": rule.enabled,
        "TlsPolicy": "Require" if rule.tls_required else "Optional",
        "Recipients": list(rule.recipients),
        "Actions": [show_action(action) for action in rule.actions],
        "ScanEnabled": False,
    }


def show_action(action: Action) -> dict[str, Any]:
    topic = {"TopicArn": action.topic} if action.topic else {}
    if action.kind == "lambda":
        return {"LambdaAction": {"FunctionArn": action.target, "InvocationType": "Event", **topic}}
    if action.kind == "s3":
        return {"S3Action": {"BucketName": action.target, "ObjectKeyPrefix": action.prefix, **topic}}
    if action.kind == "sns":
        return {"SNSAction": {"TopicArn": action.target, "Encoding": action.encoding}}
    if action.kind == "bounce":
        bounce = {"SmtpReplyCode": action.smtp_code, "Message": action.text, "Sender": "mailer-daemon@localhost"}
        return {"BounceAction": {**bounce, **topic}}
    if action.kind == "stop":
        return {"StopAction": {"Scope": "RuleSet", **topic}}
    return {"AddHeaderAction": {"HeaderName": action.header, "HeaderValue": action.text}}


def _check_nobody_elses(rule: Rule, others: Sequence[RuleSet]) -> None:
    """An address belongs to the account that named it first: nobody else reads its mail."""
    for rule_set in others:
        for other in rule_set.rules:
            if taken := rules.overlap(rule.recipients, other.recipients):
                raise CallerError("AlreadyExists", f"Mail for {taken} is received by another account.")


def _metadata(rule_set: RuleSet) -> dict[str, Any]:
    return {"Name": rule_set.name, "CreatedTimestamp": datetime.fromtimestamp(rule_set.created_at, UTC)}


def _place(rule_set: RuleSet, name: str) -> int:
    for at, rule in enumerate(rule_set.rules):
        if rule.name == name:
            return at
    raise CallerError("RuleDoesNotExist", f"Rule does not exist: {name}")


def _check_name(name: str, field: str) -> str:
    if not _NAME.fullmatch(name):
        raise CallerError("InvalidParameterValue", f"{field} '{name[:80]}' must match {_NAME.pattern}.")
    return name


def _no_rule_set(name: str) -> CallerError:
    return CallerError("RuleSetDoesNotExist", f"Rule set does not exist: {name}")


def _mailboxes(addresses: Sequence[str]) -> list[str]:
    found = [address for _, address in getaddresses(list(addresses)) if address]
    if not found:
        raise CallerError("InvalidParameterValue", "There must be at least one recipient.")
    if len(found) > MOST_RECIPIENTS:
        raise CallerError("InvalidParameterValue", f"Recipient count exceeds {MOST_RECIPIENTS}.")
    return found
