// Settles the template's conditions when it is written. The parameters are known by then, so every condition is a
// constant: what is not asked for does not appear at all, and what is reviewed and linted is exactly what is deployed.
"use strict";

const NO_VALUE = Symbol("AWS::NoValue");

function truth(condition, conditions) {
  const [[name, operands]] = Object.entries(condition);
  switch (name) {
    case "Fn::Equals":
      if (operands.some((operand) => operand !== null && typeof operand === "object")) {
        throw new Error(`A condition compares ${JSON.stringify(operands)}: only parameters of serverless.yml can be settled.`);
      }
      return String(operands[0]) === String(operands[1]);
    case "Fn::Not":
      return !truth(operands[0], conditions);
    case "Fn::And":
      return operands.every((operand) => truth(operand, conditions));
    case "Fn::Or":
      return operands.some((operand) => truth(operand, conditions));
    case "Condition":
      return named(operands, conditions);
    default:
      throw new Error(`A condition uses ${name}: Fn::Equals, Fn::Not, Fn::And, Fn::Or and Condition can be settled.`);
  }
}

function named(name, conditions) {
  if (!(name in conditions)) throw new Error(`The template names the condition ${name}, which nothing defines.`);
  return truth(conditions[name], conditions);
}

function settled(part, conditions) {
  if (Array.isArray(part)) return part.map((item) => settled(item, conditions)).filter((item) => item !== NO_VALUE);
  if (part === null || typeof part !== "object") return part;
  if (part.Ref === "AWS::NoValue") return NO_VALUE;
  if ("Fn::If" in part) {
    const [name, yes, no] = part["Fn::If"];
    return settled(named(name, conditions) ? yes : no, conditions);
  }
  return Object.fromEntries(
    Object.entries(part)
      .map(([key, value]) => [key, settled(value, conditions)])
      .filter(([, value]) => value !== NO_VALUE),
  );
}

function settle(template) {
  const conditions = template.Conditions ?? {};
  for (const section of ["Resources", "Outputs"]) {
    const kept = Object.entries(template[section] ?? {}).filter(([, entry]) => !entry.Condition || named(entry.Condition, conditions));
    template[section] = Object.fromEntries(
      kept.map(([name, { Condition, ...entry }]) => [name, settled(entry, conditions)]),
    );
  }
  delete template.Conditions;
  dropUnusedParameters(template);
}

// What only a left-out part asked for.
function dropUnusedParameters(template) {
  const text = JSON.stringify([template.Resources, template.Outputs]);
  const used = ([name]) => text.includes(`{"Ref":"${name}"}`) || text.includes(`\${${name}}`);
  template.Parameters = Object.fromEntries(Object.entries(template.Parameters ?? {}).filter(used));
  if (Object.keys(template.Parameters).length === 0) delete template.Parameters;
}

module.exports = class {
  constructor(serverless) {
    this.hooks = {
      "after:aws:package:finalize:mergeCustomProviderResources": () =>
        settle(serverless.service.provider.compiledCloudFormationTemplate),
    };
  }
};
