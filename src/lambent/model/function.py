"""What people deploy: functions, their versions, aliases and layers, as stored and as the planes share them.

Collections of `substrate.Documents` (keys are slash-joined, written only by `controlplane`):
  functions   ACCOUNT/NAME             -> Function
  versions    ACCOUNT/NAME/VERSION     -> Version   ("$LATEST" or a number)
  aliases     ACCOUNT/NAME/ALIAS       -> Alias
  provisioned ACCOUNT/NAME/QUALIFIER   -> Provisioned  (a version's number or an alias)
  function_urls ACCOUNT/NAME/QUALIFIER -> FunctionUrl  (`$LATEST` or an alias)
  policies    ACCOUNT/NAME/QUALIFIER   -> Policy  (`$LATEST`, a version's number or an alias)
  layers      ACCOUNT/NAME/VERSION     -> LayerVersion  (version as a zero-padded 10-digit number)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

LATEST = "$LATEST"
SNAP_START = "PublishedVersions"
"""The value of `snap_start` that asks for templates."""


class Logging(msgspec.Struct, frozen=True, kw_only=True):
    """LoggingConfig. Levels only apply to `JSON`."""

    format: str = "Text"
    application_level: str = "INFO"
    system_level: str = "INFO"
    log_group: str = ""


class LayerRef(msgspec.Struct, frozen=True, kw_only=True):
    arn: str
    code_size: int
    digest: str
    """SHA-256 of the layer's zip, lower-case hex: names its unpacked tree."""


CONCURRENCY = "LAMBENT_CONCURRENCY"
"""The variable that says how many requests an environment of a web application takes at a time."""


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a function: what its environments are made from and what the contract shows of it."""

    account: str
    region: str
    name: str
    version: str = LATEST
    runtime: str
    handler: str = ""
    role: str = ""
    description: str = ""
    digest: str
    """SHA-256 of the code's zip, lower-case hex: names its unpacked tree in the code store."""
    code_size: int
    memory_mb: int = 128
    timeout_s: int = 3
    ephemeral_mb: int = 512
    environment: dict[str, str] = {}
    layers: list[LayerRef] = []
    dead_letters: str = ""
    """DeadLetterConfig: the ARN of a queue or topic; empty for none."""
    logging: Logging = msgspec.field(default_factory=Logging)
    tracing_mode: str = "PassThrough"
    snap_start: str = "None"
    """`PublishedVersions`: numbered versions start from a template."""
    optimization: str = "Off"
    """`On` once a template could be made of this version."""
    init_ms: float = 0.0
    """How long the init of its template took."""
    architecture: str = "x86_64"
    last_modified: str
    """ISO 8601 as the contract has it: 2026-11-23T05:38:54.683+0000."""
    revision_id: str
    """Changes with every change of this version; environments are never shared across revisions."""
    state: str = "Active"
    state_reason: str = ""
    state_reason_code: str = ""
    last_update_status: str = "Successful"
    last_update_reason: str = ""
    last_update_reason_code: str = ""

    @property
    def concurrency(self) -> int:
        """How many invocations one of its environments takes at a time, where its runtime can."""
        # A version of a time before the variable had a meaning may have anything there.
        text = self.environment.get(CONCURRENCY, "1")
        return int(text) if text.isdecimal() else 1

    @property
    def function_arn(self) -> str:
        return f"arn:aws:lambda:{self.region}:{self.account}:function:{self.name}"

    @property
    def version_arn(self) -> str:
        return f"{self.function_arn}:{self.version}"


class Function(msgspec.Struct, frozen=True, kw_only=True):
    account: str
    name: str
    next_version: int = 1
    reserved_concurrency: int | None = None
    tags: dict[str, str] = {}


class Alias(msgspec.Struct, frozen=True, kw_only=True):
    account: str
    function: str
    name: str
    version: str
    description: str = ""
    weights: dict[str, float] = {}
    """Additional versions and the share of invocations each gets; the rest goes to `version`."""
    revision_id: str


class Provisioned(msgspec.Struct, frozen=True, kw_only=True):
    """Provisioned concurrency of a version or an alias."""

    account: str
    function: str
    qualifier: str
    executions: int
    last_modified: str
    """As the contract has it here: 2026-11-23T05:38:54+0000."""


class Cors(msgspec.Struct, frozen=True, kw_only=True):
    """Of a function URL or an HTTP API; empty members send no header."""

    allow_origins: list[str] = []
    allow_methods: list[str] = []
    allow_headers: list[str] = []
    expose_headers: list[str] = []
    allow_credentials: bool = False
    max_age_s: int | None = None


def read_cors(given: Mapping[str, Any] | None) -> Cors | None:
    """Of the members that function URLs and HTTP APIs both have; None for none."""
    if not given:
        return None
    return Cors(
        allow_origins=given.get("AllowOrigins") or [],
        allow_methods=given.get("AllowMethods") or [],
        allow_headers=given.get("AllowHeaders") or [],
        expose_headers=given.get("ExposeHeaders") or [],
        allow_credentials=bool(given.get("AllowCredentials")),
        max_age_s=given.get("MaxAge"),
    )


class FunctionUrl(msgspec.Struct, frozen=True, kw_only=True):
    """The HTTP address of a function or of an alias of it."""

    account: str
    region: str
    function: str
    qualifier: str = LATEST
    url_id: str
    """Lower-case letters and digits, the first label of its host."""
    auth_type: str
    """`NONE` or `AWS_IAM`."""
    invoke_mode: str = "BUFFERED"
    cors: Cors | None = None
    created_at: str
    last_modified: str

    @property
    def function_arn(self) -> str:
        arn = f"arn:aws:lambda:{self.region}:{self.account}:function:{self.function}"
        return arn if self.qualifier == LATEST else f"{arn}:{self.qualifier}"


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """Who else may use a function, or one qualifier of it: statements as the contract writes them."""

    account: str
    function: str
    qualifier: str = LATEST
    """`$LATEST` for the function without a qualifier."""
    statements: list[dict[str, Any]]
    revision_id: str

    def allows_public_url(self) -> bool:
        """Whether everybody may use a function URL of AuthType NONE."""
        return any(_is_public(statement) for statement in self.statements)


def _is_public(statement: dict[str, Any]) -> bool:
    auth_type = statement.get("Condition", {}).get("StringEquals", {}).get("lambda:FunctionUrlAuthType", "NONE")
    others = set(statement.get("Condition", {})) - {"StringEquals"}
    equals = set(statement.get("Condition", {}).get("StringEquals", {})) - {"lambda:FunctionUrlAuthType"}
    return (
        statement.get("Effect") == "Allow"
        and statement.get("Principal") == "*"
        and statement.get("Action") in ("lambda:InvokeFunctionUrl", "lambda:*")
        and auth_type == "NONE"
        # A condition that is not looked at here is taken for one that does not hold.
        and not others
        and not equals
    )


class LayerVersion(msgspec.Struct, frozen=True, kw_only=True):
    account: str
    region: str
    name: str
    version: int
    description: str = ""
    license: str = ""
    runtimes: list[str] = []
    architectures: list[str] = []
    digest: str
    code_size: int
    created_at: str
    deleted: bool = False
    """A deleted layer version keeps its row, so that its number is never given again."""
