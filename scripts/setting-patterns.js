// What parameters of both services are held against (scripts/serverless-settings-plugin.js).
"use strict";

const ids = (prefix) => new RegExp(`^${prefix}-[0-9a-f]{8,17}(,${prefix}-[0-9a-f]{8,17})*$`);
const optional = (pattern) => new RegExp(`^$|${pattern.source}`);

const SECRET_ARGUMENTS = /(^| )--?(token|t|agent-token|datastore-endpoint|etcd-s3-secret-key)([= ]|$)/;
// A rule about a parameter with arguments of K3s: the sentence, or nothing.
const noSecretIn = (name) => (settings) =>
  SECRET_ARGUMENTS.test(String(settings[name] ?? "")) &&
  `Parameter ${name} holds a secret: the arguments stand in the machine's user data, which many may read, so leave tokens, datastore addresses and keys out of it.`;

module.exports = {
  ids,
  noSecretIn,
  optional,
  boolean: [/^(true|false)$/, "true or false"],
  clusterId: [/^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$/, "a name of 1 to 32 lower-case letters, digits and hyphens that stands in the cluster's tags and SSM parameters"],
  parameterName: /^(\/[a-zA-Z0-9_.-]+)+$/,
  imageId: /^ami-[0-9a-f]{8,17}$/,
  rootDevice: [/^\/dev\/[a-z0-9]+$/, "the AMI's root device, such as /dev/xvda"],
  volumeGb: [/^([89]|[1-9][0-9]{1,3}|1[0-5][0-9]{3}|16[0-2][0-9]{2}|163[0-7][0-9]|1638[0-4])$/, "a whole number of gibibytes from 8 to 16384"],
  // By no alias: IAM's policies know a key by its own ARN only.
  keyArn: /^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key\/([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|mrk-[0-9a-f]{32})$/,
  releasesUrl: [/^(https:\/\/[a-zA-Z0-9.-]+(:[0-9]{1,5})?(\/[a-zA-Z0-9._~-]+)*)?$/, "an https address without a slash at its end, under which <version>/k3s and its checksums lie, or empty for GitHub"],
  // Arguments of `k3s agent` or `k3s server`: words without anything that a shell would take for its own.
  arguments: /^([a-zA-Z0-9_.,:=\/@%+-]+( [a-zA-Z0-9_.,:=\/@%+-]+)*)?$/,
};
