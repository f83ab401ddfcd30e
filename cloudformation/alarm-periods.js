// How long an alarm's period is, in seconds. CloudWatch takes multiples of 60; the sweep's rate is one.
"use strict";

const SECONDS = { minute: 60, minutes: 60, hour: 3600 };

// A rate that is wrong is refused with a sentence by scripts/serverless-settings-plugin.js, after the variables.
const seconds = (rate) => {
  const [, number, unit] = /^rate\((\d+) (minutes?|hour)\)$/.exec(String(rate)) ?? [null, 2, "minutes"];
  return Number(number) * SECONDS[unit];
};

module.exports = async ({ resolveVariable }) => {
  const sweep = seconds(await resolveVariable("param:sweepRate"));
  // `look`: long enough that every period holds at least one look.
  return { sweep, look: Math.max(300, sweep) };
};
