// Refuses wrong parameters before anything is made of them: one sentence each, with what is allowed. The rules are data,
// one file a service: `custom.settingRules` names it (scripts/service-settings.js, scripts/cluster-settings.js).
"use strict";

const LOCAL = "local";

function problems({ file, rules, together }, settings, { stage, region }) {
  const found = Object.entries(rules)
    .filter(([name, [accepted]]) => !accepted.test(String(settings[name] ?? "")))
    .map(([name, [, allowed]]) => {
      const value = settings[name] ?? "";
      const wrong = value === "" ? "is not set" : `is ${JSON.stringify(value)}`;
      return `Parameter ${name} of stage "${stage}" ${wrong}: it must be ${allowed}; set it under params.${stage} in ${file} or with --param="${name}=...".`;
    });
  const sentences = together.map((rule) => rule(settings, { stage, region })).filter(Boolean);
  return [...found, ...sentences];
}

module.exports = class {
  constructor(serverless) {
    this.hooks = { initialize: () => check(serverless) };
  }
};

function check(serverless) {
  const aws = serverless.getProvider("aws");
  const stage = aws.getStage();
  const { settings, settingRules } = serverless.service.custom;
  const found = problems(require(`./${settingRules}.js`), settings, { stage, region: aws.getRegion() });
  if (stage === LOCAL && serverless.processedInput.commands[0] === "deploy" && !process.env.AWS_ENDPOINT_URL) {
    found.push(
      `Stage "${LOCAL}" holds made-up values for an emulator: set AWS_ENDPOINT_URL to the emulator, or deploy with --stage and a stage of your own (docs/deploy.md).`,
    );
  }
  if (found.length > 0) throw new serverless.classes.Error(found.join("\n"));
}
