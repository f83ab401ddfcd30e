// Keeps the parameters that a stack is deployed with beside the stack, in an SSM parameter that is one of its resources,
// and takes them up again: a second person's `sls deploy` needs no --param of the first one's
// (docs/decisions/0009-kept-parameters.md). What counts, from the strongest: --param, params.<stage> of the file, what is
// kept, params.default of the file.
"use strict";

const { askStack } = require("./ask-python.js");

// Only these make or print anything of the parameters.
const COMMANDS = ["deploy", "package", "print"];
// For one deployment only: the server must come back with the next.
const NEVER_KEPT = ["serverPresent"];
const MOST_CHARACTERS = 4096; // of a standard parameter
const TABLE = "AWS::DynamoDB::Table";

module.exports = class {
  constructor(serverless) {
    this.serverless = serverless;
    this.kept = {};
    this.first = false;
    const { commands, options } = serverless.processedInput;
    const file = serverless.configurationInput;
    this.stage = options.stage ?? file.provider.stage;
    // As provider.region in both files, which is not resolved yet.
    this.region = options.region ?? process.env.AWS_REGION ?? process.env.AWS_DEFAULT_REGION ?? "eu-central-1";
    this.stack = `${file.service}-${this.stage}`;
    this.hooks = {};
    if (!COMMANDS.includes(commands[0])) return;
    this.takeUp(file, options.param ?? []);
    this.hooks = {
      "after:aws:package:finalize:mergeCustomProviderResources": () => this.keep(),
      "after:deploy:finalize": () => this.protect(),
    };
  }

  takeUp(file, given) {
    // Of the made-up stage an emulator only may know something.
    const asked = this.stage === "local" && !process.env.AWS_ENDPOINT_URL ? "{}" : askStack(this.serverless, "kept", this.stack, this.region);
    const before = JSON.parse(asked);
    this.first = before === null;
    const forgotten = [...(process.env.K3S_AUTOSCALER_FORGET ?? "").split(","), ...NEVER_KEPT, ...Object.keys(file.params[this.stage] ?? {})];
    this.kept = Object.fromEntries(Object.entries(before ?? {}).filter(([name]) => !forgotten.includes(name)));
    for (const [name, value] of Object.entries(this.kept)) {
      if (name in file.params.default) this.serverless.extendConfiguration(["params", "default", name], value);
    }
    for (const parameter of given) {
      const [name, value] = [parameter.slice(0, parameter.indexOf("=")), parameter.slice(parameter.indexOf("=") + 1)];
      if (!NEVER_KEPT.includes(name)) this.kept[name] = value;
    }
  }

  keep() {
    const template = this.serverless.service.provider.compiledCloudFormationTemplate;
    const value = JSON.stringify(Object.fromEntries(Object.entries(this.kept).sort()));
    if (value.length > MOST_CHARACTERS) {
      throw new this.serverless.classes.Error(
        `The parameters that were given have ${value.length} characters together, and ${MOST_CHARACTERS} can be kept: write some under params.${this.stage} of the file instead.`,
      );
    }
    template.Resources.KeptParameters = {
      Type: "AWS::SSM::Parameter",
      Properties: {
        Name: `/k3s-autoscaler/${this.stack}/parameters`,
        Type: "String",
        Tier: "Standard",
        Description: "What this stack was deployed with; the next deployment takes it up",
        Value: value,
      },
    };
    // Protected from the beginning, the tables of a first deployment that is rolled back could not be deleted.
    for (const { Type, Properties } of Object.values(template.Resources)) {
      if (Type !== TABLE) continue;
      const wanted = String(Properties.DeletionProtectionEnabled) === "true";
      Properties.DeletionProtectionEnabled = wanted && !this.first;
      this.protects = wanted && this.first;
    }
  }

  // The next deployment's template says so itself.
  protect() {
    if (this.protects) askStack(this.serverless, "protect", this.stack, this.region);
  }
};
