// What parameters of both services are held against (scripts/serverless-settings-plugin.js). An end that AWS sets is
// named where it stands: tests/service/test_setting_extremes.py carries the value at each end through all that reads it,
// and has the next one refused.
"use strict";

const net = require("node:net");

// Each id once, and no more of them than `most`.
const ids = (prefix, most) =>
  new RegExp(`^(?!.*\\b(${prefix}-[0-9a-f]+),(.*,)?\\1(,|$))${prefix}-[0-9a-f]{8,17}(,${prefix}-[0-9a-f]{8,17}){0,${most - 1}}$`);
const optional = (pattern) => new RegExp(`^$|${pattern.source}`);
// A pattern with a further test of what it accepts.
const also = (pattern, further) => ({ test: (value) => pattern.test(value) && further(value) });

// A DNS name has labels of 63 characters at most and 253 together (RFC 1035): a longer one is no address for any client.
const LABEL = "[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?";
const HOST = `(?=[^/:]{1,253}([/:]|$))${LABEL}(\\.${LABEL})*`;
const PORT = "(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?";

const SECRET_ARGUMENTS = /(^| )--?(token|t|agent-token|datastore-endpoint|etcd-s3-secret-key)([= ]|$)/;
// A rule about a parameter with arguments of K3s: the sentence, or nothing.
const noSecretIn = (name) => (settings) =>
  SECRET_ARGUMENTS.test(String(settings[name] ?? "")) &&
  `Parameter ${name} holds a secret: the arguments stand in the machine's user data, which many may read, so leave tokens, datastore addresses and keys out of it.`;

// A rule about the arguments that the bootstrap gives to each machine. K3s would take the operator's in their place: all
// workers of one name, or data beside the volume that outlives the machine.
const leavesAlone = (name, own) => (settings) => {
  const found = new RegExp(`(?:^| )(--?(?:${own})(?=[= ]|$)|(?:--kubelet-arg[= ])?provider-id=)`).exec(String(settings[name] ?? ""));
  return found && `Parameter ${name} holds ${found[1].replace(/=$/, "")}, which the machine's bootstrap settles for each machine: leave it out.`;
};

// Of the stage: the longest name that is made of it is that of an EventBridge rule, 64 characters.
const STAGE = /^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$/;

module.exports = {
  HOST,
  PORT,
  STAGE,
  also,
  ids,
  isIpv6: net.isIPv6,
  leavesAlone,
  noSecretIn,
  optional,
  boolean: [/^(true|false)$/, "true or false"],
  clusterId: [/^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$/, "a name of 1 to 32 lower-case letters, digits and hyphens that stands in the cluster's tags and SSM parameters"],
  // SSM takes 15 levels, and 1,011 characters with the ARN in front. Two of them stand in Lambda's 4 KB of environment.
  parameterName: /^(?=.{1,512}$)(\/[a-zA-Z0-9_.-]+){1,15}$/,
  parameterForm: "of at most 512 characters and 15 levels",
  // As autoscaler/policyfile/layers.py knows what a policy may extend: what packaging takes along. Its length is what
  // Lambda's 4 KB of environment have left.
  policyFile: [/^policy[A-Za-z0-9._-]{0,20}\.yml$/, "a file beside policy.yml of at most 30 characters, whose name begins with policy and ends in .yml, such as policy.prod.yml"],
  imageId: /^ami-[0-9a-f]{8,17}$/,
  rootDevice: [/^\/dev\/[a-z0-9]{1,27}$/, "the AMI's root device, such as /dev/xvda"],
  volumeGb: [/^([89]|[1-9][0-9]{1,3}|1[0-5][0-9]{3}|16[0-2][0-9]{2}|163[0-7][0-9]|1638[0-4])$/, "a whole number of gibibytes from 8 to 16384"],
  // By no alias: IAM's policies know a key by its own ARN only.
  keyArn: /^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key\/([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|mrk-[0-9a-f]{32})$/,
  releasesUrl: [new RegExp(`^((?=.{1,1024}$)https://${HOST}${PORT}(/[a-zA-Z0-9._~-]+)*)?$`), "an https address of at most 1024 characters without a slash at its end, under which <version>/k3s and its checksums lie, or empty for GitHub"],
  // Arguments of `k3s agent` or `k3s server`: words without anything that a shell would take for its own. How many there
  // may be is told by what they stand in (scripts/embedded-scripts.js).
  arguments: /^([a-zA-Z0-9_.,:=\/@%+-]+( [a-zA-Z0-9_.,:=\/@%+-]+)*)?$/,
};
