// Builds the functions' artifact with scripts/package before the framework asks for it.
"use strict";

const { spawnSync } = require("node:child_process");
const fs = require("node:fs");
const path = require("node:path");

const root = path.dirname(__dirname);

module.exports = class {
  constructor(serverless) {
    this.hooks = { "before:package:createDeploymentArtifacts": () => build(serverless) };
  }
};

function build(serverless) {
  const artifact = path.join(root, serverless.service.package.artifact);
  // For linting the template, which does not depend on what is in the artifact.
  if (process.env.K3S_AUTOSCALER_KEEP_ARTIFACT && fs.existsSync(artifact)) return;
  const policy = path.join(serverless.serviceDir, serverless.service.custom.settings.policyFile);
  const options = ["--out", artifact, "--policy", policy];
  const result = spawnSync(path.join(__dirname, "package"), options, { cwd: root, stdio: "inherit" });
  if (result.status !== 0) {
    throw new serverless.classes.Error("scripts/package could not build the artifact; its message stands above.");
  }
}
