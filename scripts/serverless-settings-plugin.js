// Refuses, before anything is made of them: wrong parameters, parameters that nobody knows, and for the service a policy
// that does not fit (autoscaler/deploy/check.py). One sentence each, with what is allowed. The rules are data, one file a
// service: `custom.settingRules` names it (scripts/service-settings.js, scripts/cluster-settings.js).
"use strict";

const path = require("node:path");
const { run } = require("./ask-python.js");
const { closest } = require("./closest.js");
const { STAGE } = require("./setting-patterns.js");

const LOCAL = "local";
// `remove` and what only looks need no parameter.
const COMMANDS = ["deploy", "package", "print"];
const OTHER = { "service-settings": "cluster-settings", "cluster-settings": "service-settings" };

// YAML takes 10.20 for the number 10.2, and a list for no text at all, although either may look right as text.
const isRead = (value) => (value === null || typeof value !== "object") && (typeof value !== "number" || Number.isSafeInteger(value));

function problems({ file, rules, together }, settings, { stage, region }) {
  const found = Object.entries(rules)
    .filter(([name, [accepted]]) => isRead(settings[name]) && !accepted.test(String(settings[name] ?? "")))
    .map(([name, [, allowed]]) => {
      const value = settings[name] ?? "";
      const wrong = value === "" ? "is not set" : `is ${JSON.stringify(value)}`;
      return `Parameter ${name} of stage "${stage}" ${wrong}: it must be ${allowed}; set it under params.${stage} in ${file} or with --param="${name}=...".`;
    });
  const unread = Object.keys(rules)
    .filter((name) => !isRead(settings[name]))
    .map((name) => `Parameter ${name} of stage "${stage}" was read as ${JSON.stringify(settings[name])} and not as text: put it into quotes in ${file}.`);
  const sentences = together.map((rule) => rule(settings, { stage, region })).filter(Boolean);
  return [...found, ...unread, ...sentences];
}

// scripts/up hands everything that it was given to both services, and says so.
function unknown(names, { file, rules }, other, { shared }) {
  return names
    .filter((name) => !(name in rules) && !(shared && name in other.rules))
    .map((name) => {
      if (name in other.rules) return `Parameter ${name} belongs to ${other.file} and means nothing in ${file}: leave it out here.`;
      const near = closest(name, Object.keys(shared ? { ...rules, ...other.rules } : rules));
      return `There is no parameter ${name}${near ? `: did you mean ${near}?` : `: ${file} lists them under params.default.`}`;
    });
}

function aboutThePolicy(serverless, { policyFile, workerImageId, workerImageParameter }) {
  const folder = serverless.serviceDir;
  const image = workerImageId ? "" : String(workerImageParameter ?? "");
  const options = ["--policy", path.join(folder, policyFile), "--rules", path.join(folder, "monitoring"), "--image", image];
  run(serverless, "autoscaler.deploy.check", options);
}

module.exports = class {
  constructor(serverless) {
    this.hooks = COMMANDS.includes(serverless.processedInput.commands[0]) ? { initialize: () => check(serverless) } : {};
  }
};

function check(serverless) {
  const aws = serverless.getProvider("aws");
  const stage = aws.getStage();
  const { settings, settingRules } = serverless.service.custom;
  const own = require(`./${settingRules}.js`);
  const other = require(`./${OTHER[settingRules]}.js`);
  const { commands, options } = serverless.processedInput;
  const given = (options.param ?? []).map((parameter) => parameter.split("=", 1)[0]);
  const params = serverless.configurationInput.params;
  const found = [
    ...unknown(given, own, other, { shared: Boolean(process.env.K3S_AUTOSCALER_BOTH) }),
    ...unknown(Object.keys({ ...params.default, ...params[stage] }), own, other, { shared: false }),
    ...problems(own, settings, { stage, region: aws.getRegion() }),
  ];
  if (!STAGE.test(stage)) {
    found.push(`The stage is "${stage}": it must be a name of 1 to 32 lower-case letters, digits and hyphens, for it stands in the names of what is deployed.`);
  }
  if (stage === LOCAL && commands[0] === "deploy" && !process.env.AWS_ENDPOINT_URL) {
    found.push(
      `Stage "${LOCAL}" holds made-up values for an emulator: set AWS_ENDPOINT_URL to the emulator, or deploy with --stage and a stage of your own (docs/deploy.md).`,
    );
  }
  if (settingRules === "service-settings" && own.rules.policyFile[0].test(String(settings.policyFile))) {
    try {
      aboutThePolicy(serverless, settings);
    } catch (error) {
      found.push(error.message);
    }
  }
  if (found.length > 0) throw new serverless.classes.Error(found.join("\n"));
}
