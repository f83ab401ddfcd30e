#!/usr/bin/env bash
# What scripts/up and scripts/down have in common: one stage in one region, its two stacks. Read in by both.
# shellcheck disable=SC2034  # what it names is for those two

wrong() { echo "$*" >&2; exit 2; }
step() { printf '\n== %s\n' "$*"; }

take_stage() { # stage, region, the script's name: checks both, and names what belongs to them
  stage=$1 region=$2
  [[ $stage =~ ^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$ ]] ||
    wrong "Give --stage, a name of 1 to 32 lower-case letters, digits and hyphens: it is \"$stage\"."
  [[ $region =~ ^[a-z]{2}(-[a-z]+)+-[0-9]$ ]] || wrong "Give --region, such as eu-central-1, or set AWS_REGION: it is \"$region\"."
  [ -x .venv/bin/python ] && [ -x node_modules/.bin/sls ] || wrong "The packages are not installed yet: run \`make setup\`."
  export AWS_REGION=$region AWS_DEFAULT_REGION=$region NODE_NO_WARNINGS=1 SLS_TRACKING_DISABLED=1
  cluster_stack=k3s-cluster-$stage
  service_stack=k3s-autoscaler-$stage
}

ask_aws() { .venv/bin/python -m autoscaler.deploy.stack "$@" --region "$region"; } # see there
value_of() { sed -n "s/^$2=//p" <<<"$1"; }                                         # lines `name=value`, name
sls() {                                                                            # command, configuration, options...
  node_modules/.bin/sls "$1" --config "$2" --stage "$stage" --region "$region" "${@:3}"
}
