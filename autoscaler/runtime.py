"""The wiring: environment -> typed settings -> ports on AWS. The only place that knows both sides."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import IO, Any, Final, Protocol, cast
from urllib.parse import urlsplit

import msgspec

from autoscaler.aws.background import ThreadBackground
from autoscaler.aws.calls import Calls
from autoscaler.aws.clients import Clients
from autoscaler.aws.clock import Context, LambdaClock, SortableIds
from autoscaler.aws.dynamodb import DynamoStateStore
from autoscaler.aws.ec2 import Ec2Fleet
from autoscaler.aws.parameters import Parameters, WebhookTokens, policy_parameter, read_offered
from autoscaler.aws.prometheus import Prometheus
from autoscaler.aws.sns import NoNotifier, SnsNotifier
from autoscaler.aws.ssm import SsmNodeCommands
from autoscaler.collector import collector_at_rest
from autoscaler.decide.capacity.catalogue import UnknownInstanceType, check_instance_types
from autoscaler.model import Action, Mode, Notice, OfferedPolicy, Trigger
from autoscaler.policy import Policy
from autoscaler.policy_files import load_policy
from autoscaler.policy_text import PolicyError
from autoscaler.ports import Ports
from autoscaler.reconcile import Busy, reconcile
from autoscaler.redaction import CleanStdout, Redaction
from autoscaler.telemetry import Telemetry

CLUSTER_ID_FORM: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_POOL_TEMPLATE: Final = r"([a-z0-9][a-z0-9-]*)/(arm64|amd64)=(lt-\S+)"
DIGEST_RECORDS: Final = 5_000
"""Of two days, the newest first; a fleet that decides more often is told of less."""
START_MODES: Final = (Mode.OBSERVE.value, Mode.ACTIVE.value)
"""A cluster that began paused would never say why nothing happens."""


class SettingsError(ValueError):
    """The environment is not complete; the message lists every variable that is missing or wrong."""


class Withheld(Exception):
    """An error whose own text held a secret."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The environment, read and checked once. None: not set, which an empty variable means as well."""

    cluster_id: str
    state_table: str
    idempotency_table: str
    prometheus_url: str
    launch_template_id: str
    """The default pool's, for its first type's architecture."""
    pool_templates: tuple[tuple[str, str, str], ...] = ()
    """(pool, architecture, launch template's id) of all others."""
    subnet_ids: tuple[str, ...]
    node_command_document: str
    alert_token_parameter: str | None = None
    prometheus_auth_parameter: str | None = None
    prometheus_ca_parameter: str | None = None
    notify_topic_arn: str | None = None
    start_mode: Mode | None = None
    """The mode of a cluster without a state; None: the policy's."""
    policy_file: str = "policy.yml"

    @property
    def policy_parameter(self) -> str:
        """Where operators change the policy live, if they do."""
        return policy_parameter(self.cluster_id)


class Reconcile(Protocol):
    """The loop, as the handlers call it."""

    def __call__(
        self,
        ports: Ports,
        *,
        cluster_id: str,
        policy: Policy,
        trigger: Trigger,
        facts: tuple[Notice, ...] = (),
        offered: Callable[[], OfferedPolicy] | None = None,
    ) -> dict[str, Any]:
        """Look once and do what follows."""
        ...


class App(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a handler needs; one a process, shared by its invocations."""

    settings: Settings
    policy: Policy
    telemetry: Telemetry
    ports: Callable[[Context], Ports]
    ours_among: Callable[[Sequence[str]], frozenset[str]]
    """Which instances are this cluster's. Raises FleetUnavailable."""
    accept_token: Callable[[str], bool]
    """Raises ParameterUnavailable."""
    clients: Clients
    offered_policy: Callable[[], OfferedPolicy] = lambda: OfferedPolicy(text=None)
    """What Parameter Store holds of the policy's live changes. Raises ParameterUnavailable."""
    history: Callable[[int], list[dict[str, Any]]] = lambda _since_s: []
    """Recorded decisions since a moment (epoch seconds), the newest first. Raises StoreUnavailable."""
    begin: Callable[[], None]
    """Called first in every invocation."""
    reconcile: Reconcile = reconcile
    redaction: Redaction = msgspec.field(default_factory=Redaction)

    @contextmanager
    def invocation(self, trigger: Trigger, context: Context) -> Iterator[None]:
        """One invocation: counters at zero, lines that name the trigger; what escapes is logged, and still escapes."""
        self.begin()
        self.telemetry.begin(trigger, context)
        with self._withholding():
            try:
                yield
            except Exception as error:
                self.telemetry.failed(error)
                raise

    @contextmanager
    def _withholding(self) -> Iterator[None]:
        """Lambda logs what escapes, past our logger: without secrets."""
        try:
            yield
        except Exception as error:
            told = self.redaction.clean(str(error))
            if told == str(error):
                raise
            raise Withheld(f"{type(error).__name__}: {told}") from None

    def ask(self, context: Context, asked: object) -> dict[str, Any]:
        """Answer a question (autoscaler/ask/questions.py), changing nothing; no metric counts it."""
        self.begin()
        self.telemetry.begin(Trigger(kind="ask"), context)
        self.telemetry.told("Somebody asks; nothing is changed.", reason="asked")
        questions = import_module("autoscaler.ask.questions")  # a look needs none of it
        service = questions.Service(
            ports=self.ports(context),
            cluster_id=self.settings.cluster_id,
            policy=self.policy,
            start_mode=self.settings.start_mode,
        )
        with self._withholding():
            answered = msgspec.json.encode(questions.answer(service, asked)).decode()
            # As a log line is cleaned: an answer quotes what Prometheus, EC2 and servers said.
            return msgspec.json.decode(self.redaction.clean(answered), type=dict[str, Any])

    def digest(self, context: Context, *, now_s: int) -> dict[str, Any]:
        """Tell people what the history of a day says; returns what was told. Raises StoreUnavailable."""
        with self.invocation(Trigger(kind="digest", correlation_id=context.aws_request_id), context):
            daily = import_module("autoscaler.digest")  # a look needs none of it
            # A day more: the price of the first hours is told by the decision before them.
            since_s = now_s - daily.DAY_S
            records = self.history(since_s - daily.DAY_S)
            told: dict[str, Any] = daily.digest_document(
                daily.digest_of(records, cluster_id=self.settings.cluster_id, since_s=since_s, until_s=now_s)
            )
            self.ports(context).notifier.notify(told)
            self.telemetry.told(told["message"], reason=told["reason"], digest=told["digest"])
            return told

    def look(
        self,
        context: Context,
        trigger: Trigger,
        facts: tuple[Notice, ...] = (),
        offered: Callable[[], OfferedPolicy] | None = None,
    ) -> dict[str, Any]:
        """Reconcile once and tell what was decided. Raises Busy and the PortErrors of reconcile."""
        with collector_at_rest():
            document = self.reconcile(
                self.ports(context),
                cluster_id=self.settings.cluster_id,
                policy=self.policy,
                trigger=trigger,
                facts=facts,
                offered=offered,
            )
        self.telemetry.decision(document)
        return document

    def look_or_leave(
        self,
        context: Context,
        trigger: Trigger,
        facts: tuple[Notice, ...] = (),
        offered: Callable[[], OfferedPolicy] | None = None,
    ) -> dict[str, Any]:
        """Reconcile once; where another invocation is at work, end quietly: it, or the next sweep, sees the rest."""
        try:
            return self.look(context, trigger, facts, offered)
        except Busy:
            return self.nothing_done("busy", "Another invocation is at work: nothing was done here.", trigger)

    def nothing_done(self, reason: str, message: str, trigger: Trigger) -> dict[str, Any]:
        """The document of an invocation that decided nothing, logged."""
        self.telemetry.told(message, reason=reason, detail=trigger.detail)
        return {
            "cluster_id": self.settings.cluster_id,
            "trigger": msgspec.to_builtins(trigger),
            "action": str(Action.NONE),
            "reason": reason,
            "message": message,
        }


def build(environ: Mapping[str, str]) -> App:
    """Wire the service to AWS and Prometheus; no remote call is made. Raises SettingsError, PolicyError."""
    settings = read_settings(environ)
    policy = read_policy(settings.policy_file)
    redaction = Redaction()
    telemetry = Telemetry(cluster_id=settings.cluster_id, stream=cast("IO[str]", CleanStdout(redaction)))
    calls = Calls()
    clients = Clients(calls)
    parameters = Parameters(clients, redaction)
    tokens = WebhookTokens(parameters.read, settings.alert_token_parameter)
    prometheus = Prometheus(
        settings.prometheus_url,
        timeout_s=policy.metrics.timeout_s,
        calls=calls,
        read_auth=_reader(parameters.read, settings.prometheus_auth_parameter),
        read_ca=_reader(parameters.read_public, settings.prometheus_ca_parameter),
        redaction=redaction,
    )
    fleet = Ec2Fleet(
        clients,
        cluster_id=settings.cluster_id,
        template_id=settings.launch_template_id,
        subnet_ids=settings.subnet_ids,
        pool_templates=settings.pool_templates,
        default_pool=policy.default_pool.name,
        pool_subnets={pool.name: pool.subnets for pool in policy.pools if pool.subnets},
    )
    commands = SsmNodeCommands(clients, document_name=settings.node_command_document)
    store = DynamoStateStore(
        clients, table=settings.state_table, cluster_id=settings.cluster_id, history_days=policy.history_days
    )
    notifier = (
        SnsNotifier(clients, topic_arn=settings.notify_topic_arn, logger=telemetry.logger)
        if settings.notify_topic_arn
        else NoNotifier()
    )
    ids = SortableIds()
    background = ThreadBackground()

    def ports(context: Context) -> Ports:
        return Ports(
            metrics=prometheus,
            fleet=fleet,
            commands=commands,
            store=store,
            notifier=notifier,
            background=background,
            clock=LambdaClock(context),
            ids=ids,
            calls=calls.so_far,
        )

    def begin() -> None:
        calls.reset()
        clients.begin()
        prometheus.begin()

    return App(
        settings=settings,
        policy=policy,
        telemetry=telemetry,
        ports=ports,
        ours_among=fleet.ours_among,
        accept_token=tokens.accept,
        offered_policy=partial(read_offered, clients, settings.policy_parameter),
        clients=clients,
        history=lambda since_s: store.history(since_s=since_s, limit=DIGEST_RECORDS),
        begin=begin,
        reconcile=partial(reconcile, start_mode=settings.start_mode),
        redaction=redaction,
    )


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Check the environment. Raises SettingsError with every problem in one sentence."""
    problems: list[str] = []

    def optional(name: str) -> str | None:
        return environ.get(name, "").strip() or None

    def required(name: str, problem: Callable[[str], str]) -> str:
        value = environ.get(name, "").strip()
        if not value:
            problems.append(f"{name} is not set")
        elif said := problem(value):
            problems.append(f"{name} {said}")
        return value

    start_mode = optional("START_MODE")
    if start_mode is not None and start_mode not in START_MODES:
        problems.append(f"START_MODE is {start_mode!r}: {' or '.join(START_MODES)} is allowed, or leave it unset")
        start_mode = None

    pool_templates = _pool_templates(optional("POOL_LAUNCH_TEMPLATES") or "")
    if pool_templates is None:
        problems.append(
            f"POOL_LAUNCH_TEMPLATES is {optional('POOL_LAUNCH_TEMPLATES')!r}: pool/architecture=lt-... is allowed, "
            "separated by commas"
        )
        pool_templates = ()

    settings = Settings(
        cluster_id=required("CLUSTER_ID", _cluster_id_problem),
        state_table=required("STATE_TABLE", _no_problem),
        idempotency_table=required("IDEMPOTENCY_TABLE", _no_problem),
        prometheus_url=required("PROMETHEUS_URL", _url_problem),
        launch_template_id=required("LAUNCH_TEMPLATE_ID", _template_problem),
        pool_templates=pool_templates,
        subnet_ids=_listed(required("SUBNET_IDS", _subnets_problem)),
        node_command_document=required("NODE_COMMAND_DOCUMENT", _no_problem),
        alert_token_parameter=optional("ALERT_TOKEN_PARAMETER"),
        prometheus_auth_parameter=optional("PROMETHEUS_AUTH_PARAMETER"),
        prometheus_ca_parameter=optional("PROMETHEUS_CA_PARAMETER"),
        notify_topic_arn=optional("NOTIFY_TOPIC_ARN"),
        start_mode=Mode(start_mode) if start_mode else None,
        policy_file=optional("POLICY_FILE") or "policy.yml",
    )
    if problems:
        raise SettingsError(f"The environment is not complete: {'; '.join(problems)}. Set it and deploy again.")
    return settings


def read_policy(path: str) -> Policy:
    """Read and check the policy. Raises PolicyError."""
    policy = load_policy(path)
    try:
        check_instance_types(policy)
    except UnknownInstanceType as error:
        raise PolicyError(f"{path} is not a valid policy: {error}.") from error
    return policy


def _reader(read: Callable[[str], str], name: str | None) -> Callable[[], str] | None:
    if name is None:
        return None
    return lambda: read(name)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _no_problem(_: str) -> str:
    return ""


def _cluster_id_problem(value: str) -> str:
    if CLUSTER_ID_FORM.fullmatch(value):
        return ""
    return f"is {value!r}: letters, digits, '.', '_' and '-' are allowed, at most 128"


def _template_problem(value: str) -> str:
    return "" if value.startswith("lt-") else f"is {value!r}: a launch template's id begins with lt-"


def _pool_templates(value: str) -> tuple[tuple[str, str, str], ...] | None:
    """`gpu/amd64=lt-0a, arm/arm64=lt-0b` apart; None for what is not of this form."""
    found = [re.fullmatch(_POOL_TEMPLATE, part) for part in _listed(value)]
    rows = tuple((match[1], match[2], match[3]) for match in found if match is not None)
    return rows if len(rows) == len(found) else None


def _subnets_problem(value: str) -> str:
    wrong = [part for part in _listed(value) if not part.startswith("subnet-")]
    if wrong or not _listed(value):
        return f"is {value!r}: subnet ids are allowed, separated by commas"
    return ""


def _url_problem(value: str) -> str:
    """What is wrong is told without the value where that may hold a secret."""
    form = "write http(s)://host:port, and the store's path behind it if it has one, such as /prometheus"
    try:
        parts = urlsplit(value)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return f"is no address: {form}"
    if "@" in parts.netloc:
        return "holds a credential: put it into the parameter that PROMETHEUS_AUTH_PARAMETER names"
    if "?" in value or "#" in value:
        return f"holds a query string or a fragment, which cannot stand before /api/v1/query: {form}"
    if not valid or not value.isprintable() or " " in value:
        return f"is {value!r}: {form}"
    if parts.path.rstrip("/").endswith(("/api/v1", "/api/v1/query")):
        return "ends in /api/v1, which is added by itself: leave it out"
    return ""
