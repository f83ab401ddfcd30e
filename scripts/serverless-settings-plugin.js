// Refuses wrong parameters before anything is made of them: one sentence each, with what is allowed.
"use strict";

const LOCAL = "local";
const ids = (prefix) => new RegExp(`^${prefix}-[0-9a-f]{8,17}(,${prefix}-[0-9a-f]{8,17})*$`);
const optional = (pattern) => new RegExp(`^$|${pattern.source}`);
const parameterName = /^(\/[a-zA-Z0-9_.-]+)+$/;
const boolean = /^(true|false)$/;
const LOG_RETENTION_DAYS = [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653];

// name: [what is accepted, what to say]
const RULES = {
  clusterId: [/^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$/, "a name of 1 to 32 lower-case letters, digits and hyphens that stands in the cluster's tags and SSM parameters"],
  prometheusUrl: [/^https?:\/\/([a-zA-Z0-9.-]+|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?(\/[a-zA-Z0-9._~/-]*)?$/, "an address such as http://10.0.1.10:30090, without user, query or blanks"],
  workerSubnetIds: [ids("subnet"), "subnet ids separated by commas without blanks, one subnet for each zone"],
  workerSecurityGroupIds: [ids("sg"), "security group ids separated by commas without blanks"],
  functionSubnetIds: [optional(ids("subnet")), "subnet ids separated by commas without blanks, or empty for functions outside any VPC"],
  functionSecurityGroupIds: [optional(ids("sg")), "security group ids separated by commas without blanks, or empty for functions outside any VPC"],
  functionDualStack: [boolean, "true or false"],
  prometheusAuthParameter: [optional(parameterName), "the name of an SSM parameter such as /k3s/shop/prometheus-auth, or empty"],
  prometheusCaParameter: [optional(parameterName), "the name of an SSM parameter such as /k3s/shop/prometheus-ca, or empty"],
  workerImageParameter: [parameterName, "the name of a public SSM parameter that holds an AMI id"],
  workerImageId: [optional(/^ami-[0-9a-f]{8,17}$/), "an AMI id, or empty to take the one that workerImageParameter names"],
  workerRootDevice: [/^\/dev\/[a-z0-9]+$/, "the AMI's root device, such as /dev/xvda"],
  workerVolumeGb: [/^([89]|[1-9][0-9]{1,3}|1[0-5][0-9]{3}|16[0-2][0-9]{2}|163[0-7][0-9]|1638[0-4])$/, "a whole number of gibibytes from 8 to 16384"],
  workerSessionManager: [boolean, "true or false"],
  k3sAgentArguments: [/^([a-zA-Z0-9_.,:=\/@%+-]+( [a-zA-Z0-9_.,:=\/@%+-]+)*)?$/, "arguments for `k3s agent` separated by single blanks, of letters, digits and _ . , : = / @ % + -"],
  sweepRate: [/^rate\((1 minute|([2-9]|[1-5][0-9]) minutes|1 hour)\)$/, "rate(1 minute), rate(2 minutes) up to rate(59 minutes), or rate(1 hour)"],
  logRetentionDays: [new RegExp(`^(${LOG_RETENTION_DAYS.join("|")})$`), `one of the numbers of days that CloudWatch Logs knows: ${LOG_RETENTION_DAYS.join(", ")}`],
  notifyTopicArn: [optional(/^arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[a-zA-Z0-9_-]{1,256}$/), "the ARN of an SNS topic, or empty"],
  reservedConcurrency: [/^(|[1-9][0-9]{0,3})$/, "a whole number from 1 to 9999, or empty to reserve none"],
  keepTables: [boolean, "true or false"],
};

function problems(settings, stage) {
  const found = Object.entries(RULES)
    .filter(([name, [accepted]]) => !accepted.test(String(settings[name] ?? "")))
    .map(([name, [, allowed]]) => {
      const value = settings[name] ?? "";
      const wrong = value === "" ? "is not set" : `is ${JSON.stringify(value)}`;
      return `Parameter ${name} of stage "${stage}" ${wrong}: it must be ${allowed}; set it under params.${stage} in serverless.yml or with --param="${name}=...".`;
    });
  if (Boolean(settings.functionSubnetIds) !== Boolean(settings.functionSecurityGroupIds)) {
    found.push("Parameters functionSubnetIds and functionSecurityGroupIds belong together: set both for functions in a VPC, or neither.");
  }
  if (String(settings.functionDualStack) === "true" && !settings.functionSubnetIds) {
    found.push("Parameter functionDualStack is true and functionSubnetIds is not set: only functions in a VPC reach AWS by its dual-stack endpoints, so set the subnets or leave it false.");
  }
  return found;
}

module.exports = class {
  constructor(serverless) {
    this.hooks = { initialize: () => check(serverless) };
  }
};

function check(serverless) {
  const stage = serverless.getProvider("aws").getStage();
  const found = problems(serverless.service.custom.settings, stage);
  if (stage === LOCAL && serverless.processedInput.commands[0] === "deploy" && !process.env.AWS_ENDPOINT_URL) {
    found.push(
      `Stage "${LOCAL}" holds made-up values for an emulator: set AWS_ENDPOINT_URL to the emulator, or deploy with --stage and a stage of your own (docs/deploy.md).`,
    );
  }
  if (found.length > 0) throw new serverless.classes.Error(found.join("\n"));
}
