"""Settings: every difference between a laptop and production is a variable here, prefix ``ISTHMUS_``.

What belongs here: names, types, defaults and descriptions of settings. What does not: connections (the other modules
of this room) and any reading of the environment at import; call :func:`get_settings` where a value is used.
"""

from __future__ import annotations

import secrets
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import BaseModel, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

DecisionKind = Literal[
    "saga_policy",
    "scaling_plan",
    "maintenance_plan",
    "remediation",
    "model_promotion",
    "configuration",
    "data_repair",
    "schema_change",
]

IngestToken = Annotated[SecretStr, Field(min_length=16)]


def _own_runbooks() -> dict[Literal["runbooks", "incidents"], list[Path]]:
    return {"runbooks": [Path(__file__).parents[1] / "docs" / "operations" / "runbooks"]}


class Source(BaseModel):
    """An operational source: where it is, what is copied from it, and what is compared with it."""

    model_config = {"hide_input_in_errors": True, "extra": "forbid"}

    url: SecretStr = Field(description="postgresql://… or mongodb://…/database")
    tables: list[str] = Field(default_factory=list, description="Tables (`schema.table`) or collections to copy.")
    compare: dict[str, str] = Field(
        default_factory=dict,
        description="Table → the warehouse's table that follows it; collection → `raw.source_current`.",
    )
    lag_seconds: float = Field(default=60.0, ge=0, description="How far that table may follow behind.")
    erase_url: SecretStr | None = Field(
        default=None, description="URL of a role that may delete; without it the owner is asked to erase a person."
    )
    erase: dict[str, Literal["delete"] | list[str]] = Field(
        default_factory=dict,
        description="Table or collection → `delete`, or the columns (fields) that are emptied where a person is found.",
    )


class Settings(BaseSettings):
    """The platform's settings; nested values use two underscores (``ISTHMUS_ACTUATION__SAGA_POLICY=apply``)."""

    model_config = SettingsConfigDict(
        env_prefix="ISTHMUS_",
        env_nested_delimiter="__",
        extra="ignore",
        hide_input_in_errors=True,  # a token that is too short must not stand in a log
    )

    home: Path = Field(default=Path(".isthmus"), description="State of the embedded services, Dagster and MLflow.")
    data: Path = Field(default=Path("../shared/data"), description="Folder of the public data sets.")

    warehouse_url: str = Field(
        default="http://127.0.0.1:8123",
        repr=False,
        description="ClickHouse over HTTP; user and password may stand in it.",
    )
    warehouse_user: str = Field(default="isthmus", description="User where the URL names none.")
    warehouse_password: SecretStr | None = Field(
        default=None,
        description="Password where the URL holds none; default: the embedded warehouse's own, from `home`.",
    )
    warehouse_port: int = Field(default=8123, description="Port of the embedded warehouse.")

    kafka_bootstrap: str = Field(default="127.0.0.1:9092", description="Bootstrap servers.")
    kafka_security: dict[str, str] = Field(
        default_factory=dict,
        repr=False,
        description="librdkafka's security options as JSON (`security.protocol`, `sasl.*` …).",
    )
    kafka_partitions: int = Field(default=3, description="Partitions of a topic that the platform creates.")
    kafka_replication: int = Field(default=1, description="Replication factor of a topic that the platform creates.")
    broker_port: int = Field(default=9092, description="Port of the embedded broker.")

    mlflow_tracking_uri: str | None = Field(default=None, description="MLflow store; default: SQLite under `home`.")

    landing_max_events: int = Field(default=200_000, description="Most events that one landing run reads.")
    landing_max_age_seconds: float = Field(
        default=0.0, description="How long a range may wait to grow before it is landed."
    )
    landing_block_events: int = Field(
        default=50_000, description="Offsets of one insert; a range is cut at their multiples, counted from its start."
    )
    landing_poll_seconds: float = Field(default=25.0, description="How long a sensor tick waits for an event.")
    landing_attempts: int = Field(
        default=4, description="Landing runs of one range, at most; after that a person resolves it as a gap."
    )
    landing_stalled_seconds: float = Field(
        default=900.0, description="Age from which an unfinished landing run counts as lost and its ranges as missing."
    )
    landing_max_in_flight: int = Field(default=4, description="Landing runs requested and not yet finished, at most.")

    burst_poll_seconds: float = Field(default=20.0, description="How long a tick of the burst sensor looks for one.")
    burst_false_alarm_days: float = Field(
        default=30.0, gt=0, description="Days between two false alarms of the burst sensor, on average, at least."
    )
    burst_quiet_seconds: float = Field(
        default=600.0, ge=0, description="How long failures must be usual again before a new burst is told."
    )

    dagster_port: int = Field(default=3000, description="Port of the Dagster web UI.")
    mlflow_port: int = Field(default=5000, description="Port of the MLflow UI.")
    docs_port: int = Field(default=8085, description="Port of the dbt docs and the quality report.")
    router_host: str = Field(
        default="127.0.0.1",
        description="Address that the router's HTTP side listens at; beyond loopback put TLS in front.",
    )
    router_port: int = Field(default=8090, description="Port of the router's health, metrics and ingestion.")

    router_table: Path | None = Field(
        default=None, description="The router's routing table (YAML), read again when it changes; default: none."
    )
    router_instance: str = Field(
        default="",
        pattern=r"^[a-zA-Z0-9._-]{0,200}$",
        description="The router's own name in its group: a restart gets its partitions back without a rebalance; "
        "default: none.",
    )
    router_transactional: bool = Field(
        default=False, description="Whether the router writes in transactions: exactly once for committed readers."
    )

    ingest_tokens: dict[str, IngestToken] = Field(
        default_factory=dict,
        repr=False,
        description="Who may send events by HTTP: name → token (16 characters or more), JSON; "
        "default: one, made at first use under `home`.",
    )
    ingest_max_body_bytes: int = Field(default=2_097_152, gt=0, description="Largest body of a request with events.")
    ingest_max_events: int = Field(default=1000, gt=0, description="Most events in one request.")
    ingest_max_in_flight: int = Field(
        default=10_000,
        gt=0,
        le=100_000,
        description="Most events taken by HTTP that the broker has not acknowledged; beyond: 503.",
    )
    ingest_timeout_seconds: float = Field(
        default=10.0,
        gt=0,
        description="Time limit for the body of a request with events, and again for the broker's acknowledgement.",
    )

    orchestrator_host: str = Field(
        default="127.0.0.1", description="Address of the advice service; beyond loopback put TLS in front."
    )
    orchestrator_port: int = Field(default=8091, description="Port of the advice service.")
    advice_tokens: dict[str, IngestToken] = Field(
        default_factory=dict,
        repr=False,
        description="Who may ask for advice: name → token (16 characters or more), JSON; "
        "default: one, made at first use under `home`.",
    )
    steward_port: int = Field(default=8093, description="Port of the steward's page.")
    steward_tokens: dict[str, IngestToken] = Field(
        default_factory=dict,
        repr=False,
        description="Who may decide on the steward's page: name → token (16 characters or more), JSON; "
        "default: one, made at first use under `home`.",
    )
    advice_refresh_seconds: float = Field(
        default=5.0, gt=0, description="How often the advice service reads policies and champions again."
    )

    advice_max_waiting: int = Field(
        default=64, gt=0, le=10_000, description="Most questions that wait for their turn; beyond: 503."
    )

    knowledge_paths: dict[Literal["runbooks", "incidents"], list[Path]] = Field(
        default_factory=_own_runbooks,
        description="Files and folders of runbooks and of incident write-ups (Markdown; Parquet with `title` and "
        "`text`), JSON; default: the platform's own runbooks.",
    )

    advice_stream: bool = Field(
        default=True, description="Whether the advice service reads saga events and writes advice on Kafka."
    )
    advice_instance: str = Field(
        default="",
        pattern=r"^[a-zA-Z0-9._-]{0,200}$",
        description="The advice service's own name in its consumer group: a restart gets its partitions back at once; "
        "default: none.",
    )
    advice_sagas: int = Field(
        default=10_000, gt=0, description="Most running sagas that the advice service keeps in memory."
    )
    advice_read_back: int = Field(
        default=20_000,
        ge=0,
        description="Records of a partition that the advice service reads back after a start, to know what runs.",
    )

    redis_url: str | None = Field(
        default=None,
        repr=False,
        description="Redis that the policies in force are written to (`redis://127.0.0.1:6379/0`); user and password "
        "may stand in it; default: none is written to.",
    )
    redis_password: SecretStr | None = Field(default=None, description="Password of Redis where the URL holds none.")

    log_format: Literal["auto", "json", "text"] = Field(
        default="auto", description="Form of the router's log; `auto`: text on a terminal, JSON lines elsewhere."
    )

    otlp_endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://[^/]",
        repr=False,
        description="Collector of the router's traces, OTLP over HTTP (`http://127.0.0.1:4318`); default: no traces.",
    )
    otlp_headers: dict[str, SecretStr] = Field(
        default_factory=dict, repr=False, description="Headers of the requests to that collector, JSON."
    )
    traces_per_second: int = Field(
        default=100, gt=0, description="Most spans that the router makes in a second; beyond, events pass untraced."
    )

    schema_registry_url: str | None = Field(
        default=None,
        repr=False,
        description="Schema registry that speaks Confluent's interface; user and password may stand in it; "
        "default: the catalogue alone.",
    )
    schema_registry_user: str = Field(default="", description="User of the schema registry where the URL names none.")
    schema_registry_password: SecretStr | None = Field(
        default=None, description="Password of that user where the URL holds none."
    )
    schema_registry_ca: Path | None = Field(
        default=None,
        description="Certificates (PEM) that the schema registry's is checked against; default: certifi's.",
    )

    sources: dict[str, Source] = Field(
        default_factory=dict,
        repr=False,
        description="Operational sources, JSON: name → `url`, `tables` to copy, `compare` (table → the warehouse's), "
        "`lag_seconds`; `erase_url` and `erase` where persons are erased there too.",
    )
    erasure_rules: Path | None = Field(
        default=None, description="What the law wants kept when a person is erased (YAML); default: nothing."
    )

    pii_key: SecretStr | None = Field(
        default=None,
        description="Key of the keyed hash for `x-pii: hash`; default: one made at first use under `home`.",
    )
    pii_keys_previous: list[SecretStr] = Field(
        default_factory=list,
        repr=False,
        description="Keys before `ISTHMUS_PII_KEY`, newest first, JSON: they find and open what they once hashed and "
        "sealed, and make nothing new.",
    )
    retention: Literal["dry-run", "apply"] = Field(
        default="dry-run", description="Whether `compliance/retention` removes what is past its declared retention."
    )
    controller_name: str = Field(default="", description="Who is responsible for the personal data: name and address.")
    controller_contact: str = Field(default="", description="How the controller is reached.")
    dpo_contact: str = Field(default="", description="How the data protection officer is reached.")
    approvers: list[str] = Field(
        default_factory=list,
        description="Who may approve or refuse a decision, JSON; empty: whoever holds the warehouse's password.",
    )
    actuation: dict[DecisionKind, Literal["dry-run", "apply"]] = Field(
        default_factory=dict, description="Kinds of decision that may act without a person; default: none."
    )

    def secret(self, name: str) -> str:
        """Return the secret ``name`` of this installation, made at first use (``home/secrets/name``, mode 0600)."""
        path = self.home / "secrets" / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Written whole, then linked into place: of two processes that start together one wins, and both read it.
            draft = path.with_name(f".{name}-{secrets.token_hex(4)}")
            draft.touch(mode=0o600)
            draft.write_text(secrets.token_urlsafe(24))
            try:
                path.hardlink_to(draft)
            except FileExistsError:
                pass
            finally:
                draft.unlink()
        return path.read_text().strip()

    def warehouse_dsn(self) -> str:
        """Return the warehouse's URL with user and password in it; never log it."""
        parts = urlsplit(self.warehouse_url)
        # What stands in the URL is quoted already.
        user = parts.username or quote(self.warehouse_user, safe="")
        password = parts.password
        if password is None:
            given = self.warehouse_password
            password = quote(given.get_secret_value() if given else self.secret("warehouse-password"), safe="")
        host = parts.hostname or "127.0.0.1"
        host = f"[{host}]" if ":" in host else host
        port = f":{parts.port}" if parts.port else ""
        return urlunsplit((parts.scheme, f"{user}:{password}@{host}{port}", parts.path, parts.query, ""))

    def redis_dsn(self) -> str | None:
        """Return Redis' URL with the password in it, None where there is none; never log it."""
        if self.redis_url is None or self.redis_password is None:
            return self.redis_url
        parts = urlsplit(self.redis_url)
        if parts.password is not None:
            return self.redis_url
        host = parts.netloc.rpartition("@")[2]
        secret = quote(self.redis_password.get_secret_value(), safe="")
        return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:{secret}@{host}"))

    def mlflow_uri(self) -> str:
        """Return the tracking URI of the MLflow store."""
        return self.mlflow_tracking_uri or f"sqlite:///{(self.home / 'mlflow' / 'mlflow.db').resolve()}"

    def pii_secret(self) -> bytes:
        """Return the key of the keyed hash for personal data."""
        return (self.pii_key.get_secret_value() if self.pii_key else self.secret("pii-key")).encode()

    def pii_secrets_previous(self) -> tuple[bytes, ...]:
        """Return the keys before it, newest first."""
        return tuple(key.get_secret_value().encode() for key in self.pii_keys_previous)

    def ingest_secrets(self) -> dict[str, str]:
        """Return the tokens of those who may send events by HTTP, by name."""
        given = {name: token.get_secret_value() for name, token in self.ingest_tokens.items()}
        return given or {"default": self.secret("ingest-token")}

    def advice_secrets(self) -> dict[str, str]:
        """Return who may ask for advice, name → token."""
        given = {name: token.get_secret_value() for name, token in self.advice_tokens.items()}
        return given or {"default": self.secret("advice-token")}

    def steward_secrets(self) -> dict[str, str]:
        """Return who may decide on the steward's page, name → token."""
        given = {name: token.get_secret_value() for name, token in self.steward_tokens.items()}
        return given or {"steward": self.secret("steward-token")}


@lru_cache
def get_settings() -> Settings:
    """Return this process's settings, read from the environment once (``get_settings.cache_clear()`` reads anew)."""
    return Settings()  # every field has a default
