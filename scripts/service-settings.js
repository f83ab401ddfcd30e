// What the parameters of serverless.yml may be.
"use strict";

const { lacksIpv6, unknownRegion } = require("./regions.js");
const patterns = require("./setting-patterns.js");

const { HOST, PORT, boolean, clusterId, ids, imageId, keyArn, optional, parameterForm, parameterName, policyFile, rootDevice, volumeGb } = patterns;
const topicArn = optional(/^arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[a-zA-Z0-9_-]{1,256}$/);
const LOG_RETENTION_DAYS = [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653];

// As the functions read it (autoscaler/runtime.py).
const STORE_URL = new RegExp(`^(?=.{1,1024}$)https?://(${HOST}|\\[[0-9a-fA-F:]+\\])${PORT}(?!.*/api/v1(/query)?/*$)(/[a-zA-Z0-9._~:/-]*)?$`);
const hasAddress = (url) => !url.includes("[") || patterns.isIpv6(url.slice(url.indexOf("[") + 1, url.indexOf("]")));

// name: [what is accepted, what to say]
const rules = {
  clusterId,
  policyFile,
  prometheusUrl: [patterns.also(STORE_URL, hasAddress), "an address of at most 1024 characters such as http://10.0.1.10:30090, with the store's path where it has one (/prometheus), without user, query, blanks or /api/v1"],
  // Those of a launch stand in an IAM policy, which takes 6,144 characters. An interface takes 16 groups at the most.
  workerSubnetIds: [ids("subnet", 12), "1 to 12 subnet ids separated by commas without blanks, each once, one subnet for each zone"],
  workerSecurityGroupIds: [ids("sg", 16), "1 to 16 security group ids separated by commas without blanks, each once"],
  // Lambda's own numbers (API reference, VpcConfig).
  functionSubnetIds: [optional(ids("subnet", 16)), "1 to 16 subnet ids separated by commas without blanks, each once, or empty for functions outside any VPC"],
  functionSecurityGroupIds: [optional(ids("sg", 5)), "1 to 5 security group ids separated by commas without blanks, each once, or empty for functions outside any VPC"],
  functionDualStack: boolean,
  prometheusAuthParameter: [optional(parameterName), `the name of an SSM parameter such as /k3s/shop/prometheus-auth, ${parameterForm}, or empty`],
  prometheusCaParameter: [optional(parameterName), `the name of an SSM parameter such as /k3s/shop/prometheus-ca, ${parameterForm}, or empty`],
  workerImageParameter: [parameterName, `the name of a public SSM parameter that holds an AMI id, ${parameterForm}`],
  workerImageId: [optional(imageId), "an AMI id, or empty to take the one that workerImageParameter names"],
  workerRootDevice: rootDevice,
  workerVolumeGb: volumeGb,
  workerVolumeKeyArn: [optional(keyArn), "the ARN of a KMS key such as arn:aws:kms:eu-central-1:111122223333:key/0a0a0a0a-0a0a-0a0a-0a0a-0a0a0a0a0a0a, no alias, or empty for the account's default"],
  workerSessionManager: boolean,
  k3sAgentArguments: [patterns.arguments, "arguments for `k3s agent` separated by single blanks, of letters, digits and _ . , : = / @ % + -"],
  k3sRegistriesParameter: [optional(parameterName), `the name of an SSM parameter such as /k3s/shop/registries, ${parameterForm}, or empty`],
  k3sReleasesUrl: patterns.releasesUrl,
  startMode: [/^(observe|active)$/, "observe or active: the mode that a cluster without a state begins in"],
  sweepRate: [/^rate\((1 minute|([2-9]|[1-5][0-9]) minutes|1 hour)\)$/, "rate(1 minute), rate(2 minutes) up to rate(59 minutes), or rate(1 hour)"],
  logRetentionDays: [new RegExp(`^(${LOG_RETENTION_DAYS.join("|")})$`), `one of the numbers of days that CloudWatch Logs knows: ${LOG_RETENTION_DAYS.join(", ")}`],
  notifyTopicArn: [topicArn, "the ARN of an SNS topic, or empty"],
  slackWebhookParameter: [optional(parameterName), `the name of an SSM parameter such as /k3s/shop/slack, ${parameterForm}, or empty`],
  // A batch waits at most 300 s (Lambda, MaximumBatchingWindowInSeconds).
  slackGroupS: [/^([1-9][0-9]?|[12][0-9][0-9]|300)$/, "a whole number of seconds from 1 to 300"],
  digestSchedule: [/^(|cron\([0-9A-Z*?,\/#L-]+( [0-9A-Z*?,\/#LW-]+){5}\))$/, "six fields as EventBridge knows them, in UTC, such as cron(0 6 * * ? *), or empty"],
  alarms: boolean,
  alarmTopicArn: [topicArn, "the ARN of an SNS topic, or empty to have one created"],
  alarmTopicKey: boolean,
  alarmEmail: [new RegExp(`^([a-zA-Z0-9._%+-]{1,64}@(?=.*\\.)${HOST})?$`), "one e-mail address, or empty"],
  dashboard: boolean,
  reservedConcurrency: [/^(|[1-9][0-9]{0,3})$/, "a whole number from 1 to 9999, or empty to reserve none"],
  keepTables: boolean,
};

// Rules about several parameters: the sentence, or nothing.
const together = [
  unknownRegion,
  (settings) =>
    Boolean(settings.functionSubnetIds) !== Boolean(settings.functionSecurityGroupIds) &&
    "Parameters functionSubnetIds and functionSecurityGroupIds belong together: set both for functions in a VPC, or neither.",
  (settings) =>
    String(settings.functionDualStack) === "true" &&
    !settings.functionSubnetIds &&
    "Parameter functionDualStack is true and functionSubnetIds is not set: only functions in a VPC reach AWS by its dual-stack endpoints, so set the subnets or leave it false.",
  (settings, { region }) =>
    String(settings.functionDualStack) === "true" &&
    lacksIpv6(region) &&
    `Parameter functionDualStack is true and region ${region} is not known to have dual-stack endpoints of EC2 and SNS: leave it false, and give the functions' subnets a NAT or endpoints of their own.`,
  // A volume takes a key of its own region only; a multi-Region key has an ARN in each.
  (settings, { region }) =>
    keyArn.test(settings.workerVolumeKeyArn) &&
    settings.workerVolumeKeyArn.split(":")[3] !== region &&
    `Parameter workerVolumeKeyArn names a key of ${settings.workerVolumeKeyArn.split(":")[3]} and the deployment is to ${region}: volumes take keys of their own region only.`,
  (settings) =>
    Boolean(settings.alarmEmail) &&
    Boolean(settings.alarmTopicArn) &&
    "Parameters alarmEmail and alarmTopicArn exclude each other: subscribe the address at your own topic, or leave alarmTopicArn empty to have a topic created.",
  (settings) =>
    String(settings.alarms) === "false" &&
    Boolean(settings.alarmEmail || settings.alarmTopicArn) &&
    "Parameter alarms is false and alarmEmail or alarmTopicArn is set: there would be nothing to tell, so set alarms to true or leave both empty.",
  (settings) =>
    Boolean(settings.digestSchedule) &&
    !settings.notifyTopicArn &&
    !settings.slackWebhookParameter &&
    "Parameter digestSchedule is set and nobody would be told: set notifyTopicArn or slackWebhookParameter, or leave it empty.",
  (settings) =>
    String(settings.alarmTopicKey) === "true" &&
    (String(settings.alarms) === "false" || Boolean(settings.alarmTopicArn)) &&
    "Parameter alarmTopicKey is true and no topic is created (alarms is false or alarmTopicArn is set): there would be nothing to encrypt, so leave it false.",
  ...["notifyTopicArn", "alarmTopicArn"].map(
    (name) => (settings, { region }) => {
      const [, , , elsewhere] = String(settings[name] ?? "").split(":");
      return (
        Boolean(elsewhere) &&
        elsewhere !== region &&
        `Parameter ${name} names a topic in ${elsewhere}, and what tells it of something is in ${region}: SNS takes messages from its own region only, so give a topic there.`
      );
    },
  ),
  patterns.noSecretIn("k3sAgentArguments"),
  patterns.leavesAlone("k3sAgentArguments", "node-name|server|s|token-file"),
];

module.exports = { file: "serverless.yml", rules, together };
