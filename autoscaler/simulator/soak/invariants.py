"""Every invariant of the soak, by the moment at which it is checked."""

from autoscaler.simulator.soak import (
    on_choice,
    on_decision,
    on_effect,
    on_ending,
    on_market,
    on_numbers,
    on_policy,
    on_pools,
    on_prices,
    on_state,
    on_telling,
)
from autoscaler.simulator.soak.assumptions import RULES_ARE_USED
from autoscaler.simulator.soak.on_plans import PlanRules
from autoscaler.simulator.soak.on_step import FleetRules
from autoscaler.simulator.soak.on_telling import TellRules
from autoscaler.simulator.soak.on_turns import TurnRules
from autoscaler.simulator.soak.watch import Rules


def rules() -> Rules:
    """A fresh set: some of the rules remember what they saw."""
    fleet = FleetRules()
    turns = TurnRules()
    tells = TellRules()
    plans = PlanRules()
    policies = on_policy.PolicyRules()
    returns = on_market.ReturnRules()
    known = RULES_ARE_USED
    return Rules(
        on_save=(
            on_state.fence_only_rises,
            on_state.lease_is_respected,
            on_state.only_the_owner_changes_operations,
            on_state.lease_is_short,
            on_state.phases_move_forward,
            on_state.launches_only_accumulate,
            on_state.one_removal_per_worker,
            on_state.removal_ends_only_when_it_is_done,
            on_state.launch_ends_only_when_it_is_done,
            on_state.state_stays_small,
            on_decision.no_shrink_without_complete_metrics,
            on_decision.no_shrink_on_an_unknown_window,
            on_decision.no_shrink_of_a_busy_fleet,
            on_decision.only_idle_workers_leave_together,
            on_decision.shrink_keeps_the_minimum,
            on_decision.shrink_waits_for_calm,
            on_decision.growth_has_a_cause,
            on_decision.growth_is_no_more_than_waits,
            on_numbers.a_forecast_stays_within_its_cap,
            on_numbers.nobody_leaves_while_a_signal_is_unknown,
            on_numbers.a_shrink_leaves_what_a_signal_wants,
            on_decision.removal_has_a_reason,
            on_decision.nothing_is_decided_for_another_cluster,
            on_ending.termination_is_earned,
            on_ending.no_step_rests_on_an_old_answer,
            on_decision.no_failure_is_counted_for_what_we_removed,
            on_decision.nothing_is_removed_twice,
            on_choice.nobody_leaves_by_choice_in_a_blackout,
            on_choice.no_more_leave_together_than_the_budget,
            on_choice.who_is_replaced_is_replaced_first,
            turns.a_refused_worker_waits,
            turns.a_retirement_is_replaced_once,
            on_market.a_shrink_keeps_the_base,
            on_pools.who_leaves_leaves_each_pool_its_min,
            policies.only_what_is_valid_holds,
            policies.no_older_policy_holds_again,
            on_prices.what_comes_for_a_dearer_worker_is_cheaper,
            returns.a_return_launches_first_and_one_at_a_time,
            *([plans.no_launch_follows_a_removal] if known else []),
        ),
        on_send=(
            on_effect.intent_comes_first,
            on_effect.a_launch_is_sent_to_the_letter,
            on_effect.only_ours_is_touched,
            on_pools.a_launch_is_of_one_pool,
            on_effect.hands_off_while_paused,
            on_ending.nothing_is_lost_unasked,
            on_ending.no_end_rests_on_an_old_look,
        ),
        on_effect=(
            on_effect.never_above_max,
            on_pools.never_above_a_pools_max,
            on_effect.never_above_the_cost_cap,
            on_effect.one_fleet_for_one_intent,
            on_market.one_stands_for_one,
            on_effect.nothing_runs_on_what_is_terminated,
        ),
        on_step=(
            fleet.nothing_else_is_touched,
            fleet.every_instance_is_known,
            fleet.every_cordon_has_an_operation,
            fleet.nodes_are_deleted_only_when_dead,
            fleet.fences_of_nodes_only_rise,
            *([plans.a_plan_is_enough] if known else []),
        ),
        on_end=(
            turns.every_removable_worker_is_tried,
            tells.a_lasting_failure_is_told_once,
            on_telling.a_protected_worker_is_given_back,
            on_policy.a_decision_names_the_policy_that_held,
            on_policy.a_refused_policy_is_told_by_who_brought_it,
            on_prices.dollars_are_by_the_prices_that_hold,
            *([plans.nothing_is_launched_for_pods_that_no_worker_helps] if known else []),
        ),
    )
