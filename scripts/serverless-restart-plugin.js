// Says before a deployment of the cluster stack whether it stops and starts the server: CloudFormation does so, unasked,
// where user data or the instance type differ, which a new argument, version or script of ours brings about.
"use strict";

const { askStack } = require("./ask-python.js");

module.exports = class {
  constructor(serverless) {
    this.hooks = { "before:deploy:deploy": () => warn(serverless) };
  }
};

function warn(serverless) {
  const { service } = serverless;
  const aws = serverless.getProvider("aws");
  const template = JSON.stringify(service.provider.compiledCloudFormationTemplate);
  const changed = askStack(serverless, "restarts", aws.naming.getStackName(), aws.getRegion(), template).trim();
  if (!changed) return;
  process.stderr.write(
    `Warning: this deployment stops and starts the server (${changed.split("\n").join(", ")} changes): for some minutes there is no Kubernetes API and no Prometheus; pods go on, and nothing is scaled.\n`,
  );
}
