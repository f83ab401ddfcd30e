"""Invariants of the calls that change the world: intended first, only on ours, within the limits."""

import math

from autoscaler.model import CLUSTER_TAG, OPERATION_TAG, LaunchRequest, Mode, NodeCommand, RemovalPhase, Verb
from autoscaler.simulator.instances import SimInstance
from autoscaler.simulator.soak.assumptions import NOTICED_WITHIN_S
from autoscaler.simulator.soak.clockwork import AHEAD_S, SENT_AGAIN_S, limits_between
from autoscaler.simulator.soak.pools import usd_of
from autoscaler.simulator.soak.watch import Effect, Watch
from autoscaler.simulator.world.controllers import evictable_pods
from autoscaler.simulator.world.objects import SimNode

PHASE_OF = {
    Verb.INSPECT: RemovalPhase.INSPECTING,
    Verb.DRAIN: RemovalPhase.DRAINING,
    Verb.DELETE_NODE: RemovalPhase.DELETING,
    Verb.UNCORDON: RemovalPhase.UNCORDONING,
}


def intent_comes_first(watch: Watch, effect: Effect) -> str | None:
    """No call without an intent that was saved before it: the whole request, or the phase and its fence."""
    subject = effect.subject
    if isinstance(subject, LaunchRequest):
        operation_id = dict(subject.tags).get(OPERATION_TAG, "")
        if operation_id not in watch.requests:
            return f"the launch {operation_id} was sent before its intent was saved"
    elif isinstance(subject, NodeCommand) and subject.verb is Verb.RULES:
        # A question changes nothing. That somebody is about to ask is written first, so that nobody asks beside him.
        if watch.state.rules_question is None and watch.state.rules_answered_at_s is None:
            return f"{effect.by.process.name} asks for rules, and nobody said that it would"
    elif isinstance(subject, NodeCommand):
        wanted = (subject.operation_id, PHASE_OF.get(subject.verb), subject.fence)
        if wanted not in watch.phases:
            return f"{subject.verb} of {subject.node_name} was sent before its intent was saved"
    elif subject not in watch.terminating:
        return f"{subject} was to be terminated before its intent was saved"
    return None


def a_launch_is_sent_to_the_letter(watch: Watch, effect: Effect) -> str | None:
    """Every copy of a launch is the frozen request: its token, its rows, its count."""
    if not isinstance(effect.subject, LaunchRequest):
        return None
    operation_id = dict(effect.subject.tags).get(OPERATION_TAG, "")
    known = watch.requests.get(operation_id)
    if known is not None and known != effect.subject:
        return f"the launch {operation_id} was sent with another request than the one it froze"
    return None


def only_ours_is_touched(watch: Watch, effect: Effect) -> str | None:
    """Nothing that is not ours is terminated, drained, uncordoned or deleted; commands go to servers."""
    subject = effect.subject
    if isinstance(subject, NodeCommand):
        node = watch.cluster.world.state.nodes.get(subject.node_name)
        if node is not None and not node.machine.managed:
            return f"{subject.verb} was sent for {subject.node_name}, which is not ours"
        # What somebody took over is given back, and may be asked about.
        if node is not None and subject.verb in {Verb.DRAIN, Verb.DELETE_NODE} and _is_taken_over(watch, node):
            return f"{subject.verb} was sent for {subject.node_name}, which is not ours any more"
    elif isinstance(subject, str):
        instance = watch.cluster.ec2.instances.get(subject)
        if watch.truth.changed_hands(subject, NOTICED_WITHIN_S):
            return None
        if instance is not None and not watch.truth.is_ours(instance):
            return f"{subject} was to be terminated, and is not ours"
    return None


def lost_its_tag(watch: Watch, instance: SimInstance) -> bool:
    """Whether a person took it over: where EC2 replays no tokens, nothing shows any more that the launch landed."""
    return instance.instance_id in watch.truth.untagged_s and not watch.cluster.ec2.settings.replays_tokens


def _is_taken_over(watch: Watch, node: SimNode) -> bool:
    instance_id = node.machine.instance_id
    instance = watch.cluster.ec2.instances.get(instance_id)
    recent = watch.truth.changed_hands(instance_id, NOTICED_WITHIN_S)
    return instance is not None and watch.truth.running(instance_id) and not (recent or watch.truth.is_ours(instance))


def hands_off_while_paused(_watch: Watch, effect: Effect) -> str | None:
    """Whoever saw the operator's pause changes nothing; who only observes may ask."""
    asks = isinstance(effect.subject, NodeCommand) and effect.subject.verb is Verb.RULES
    if effect.seen.mode is not Mode.ACTIVE and not (asks and effect.seen.mode is Mode.OBSERVE):
        return f"{effect.by.process.name} did {effect.name} although it had seen the mode {effect.seen.mode}"
    return None


def never_above_max(watch: Watch, effect: Effect) -> str | None:
    """Living workers, but those that EC2 takes back, are at most max after every launch."""
    if not isinstance(effect.subject, LaunchRequest):
        return None
    watch.truth.look()
    moment = watch.truth.moments[-1]
    workers = (moment.ours | moment.others) - watch.truth.noticed.keys() - watch.truth.stopped
    operation_id = dict(effect.subject.tags).get(OPERATION_TAG, "")
    launched = [i for i in moment.ours if watch.cluster.ec2.instances[i].tags.get(OPERATION_TAG) == operation_id]
    now_s = watch.cluster.now_s
    policies = watch.policies_since(now_s - SENT_AGAIN_S)
    most = limits_between(policies, now_s - SENT_AGAIN_S, now_s).most_max
    most = max(most, limits_between(policies, now_s - SENT_AGAIN_S, now_s + AHEAD_S).most_min)
    known = watch.cluster.ec2.instances
    workers -= {i for i in workers if i in known and lost_its_tag(watch, known[i])}
    if launched and len(workers - unknown_to_all(watch, effect)) > most:
        return f"{len(workers)} workers live after {effect.name} {operation_id}; max is {most}"
    return None


def unknown_to_all(watch: Watch, effect: Effect) -> set[str]:
    """Who lost the cluster's tag while Prometheus could not be asked."""
    if not watch.blind() and effect.seen.metrics_complete:
        return set()
    instances = watch.cluster.ec2.instances.values()
    return {i.instance_id for i in instances if i.instance_id in watch.truth.untagged_s and CLUSTER_TAG not in i.tags}


def never_above_the_cost_cap(watch: Watch, effect: Effect) -> str | None:
    """Living workers of ours, but those that EC2 takes back, cost no more than the cap after a launch."""
    policies = watch.policies_since(watch.cluster.now_s - SENT_AGAIN_S)
    if not isinstance(effect.subject, LaunchRequest) or any(p.cost.max_usd_per_hour is None for p in policies):
        return None
    watch.truth.look()
    ours = watch.truth.moments[-1].ours - watch.truth.noticed.keys() - watch.truth.stopped
    operation_id = dict(effect.subject.tags).get(OPERATION_TAG, "")
    instances = watch.cluster.ec2.instances
    if not any(instances[i].tags.get(OPERATION_TAG) == operation_id for i in ours):
        return None
    bills = [(sum(usd_of(p, instances[i]) for i in ours), p.cost.max_usd_per_hour or 0.0) for p in policies]
    usd, cap = min(bills, key=lambda bill: bill[0] - bill[1])
    if usd > cap + 1e-9:
        return f"the workers cost ${usd:.4f} an hour after {effect.name} {operation_id}; the cap is ${cap:.4f}"
    return None


def one_fleet_for_one_intent(watch: Watch, effect: Effect) -> str | None:
    """However often a launch is sent, EC2 starts its count once."""
    if not isinstance(effect.subject, LaunchRequest):
        return None
    operation_id = dict(effect.subject.tags).get(OPERATION_TAG, "")
    known = watch.cluster.ec2.instances.values()
    started = [i for i in known if i.tags.get(OPERATION_TAG) == operation_id and not lost_its_tag(watch, i)]
    intended = watch.requests.get(operation_id)
    if intended is not None and len(started) > intended.count:
        return f"{len(started)} instances were started for {operation_id}, which intended {intended.count}"
    return None


def nothing_runs_on_what_is_terminated(watch: Watch, effect: Effect) -> str | None:
    """A worker that was drained holds no pod that somebody would miss when it ends."""
    if not isinstance(effect.subject, str) or effect.subject in watch.truth.noticed:
        return None
    node = watch.truth.node_of(effect.subject)
    if node is None or not node.ready or node.name in watch.truth.hand_cordoned:
        return None
    if watch.cluster.now_s - watch.truth.opened_s.get(node.name, -math.inf) <= NOTICED_WITHIN_S:
        return None
    drained = [
        r for r in watch.state.removals if r.instance_id == effect.subject and watch.answers.drained(r.operation_id)
    ]
    left = [pod.title for pod in evictable_pods(node) if not pod.finished]
    if drained and left:
        return f"{effect.subject} is terminated with {left[0]} on it, although it was drained"
    return None
