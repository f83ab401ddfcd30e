// The dashboard's body. CloudFormation takes it as JSON text, with ${...} for what is known at deployment only.
// Charts of long times are metrics; what needs words or one count is asked of the log, where it costs no metric.
"use strict";

const WIDTH = 24;
const HEIGHT = 6;
const region = "${AWS::Region}";
const FUNCTIONS = ["Alerts", "Sweep", "Lifecycle"];

const everyFunction = (metric, stat) =>
  FUNCTIONS.map((name) => ["AWS/Lambda", metric, "FunctionName", `\${${name}LambdaFunction}`, { label: name.toLowerCase(), stat }]);

// Widgets from left to right, a row each; a row's widgets share its width.
const laidOut = (rows) =>
  rows.flatMap(({ height = HEIGHT, widgets }, row) => {
    const y = rows.slice(0, row).reduce((sum, above) => sum + (above.height ?? HEIGHT), 0);
    const width = WIDTH / widgets.length;
    return widgets.map((widget, column) => ({ x: column * width, y, width, height, ...widget }));
  });

// A period holds a look at least, so that lines have no holes; a longer gap is drawn as one, not as zero.
const charts = (period) => (title, rows, more = {}) => ({
  type: "metric",
  properties: { title, region, view: "timeSeries", stat: "Maximum", period, metrics: rows, yAxis: { left: { min: 0 } }, ...more },
});

const logged = (groups) => (title, view, query) => ({
  type: "log",
  properties: { title, region, view, query: `${groups.map((group) => `SOURCE '${group}'`).join(" | ")} | ${query.trim()}` },
});

const alarmStates = (names) => ({
  type: "alarm",
  properties: {
    title: "Alarms",
    alarms: names.map((name) => `arn:\${AWS::Partition}:cloudwatch:${region}:\${AWS::AccountId}:alarm:${name}`),
  },
});

const limits = ({ min, max }) =>
  Object.entries({ "workers.min": min, "workers.max": max })
    .filter(([, value]) => value !== undefined && value !== null)
    .map(([label, value]) => ({ label, value: Number(value) }));

function body({ service, clusterId, prefix, period, workers, lastDecisions, alarmNames }) {
  const metrics = charts(period);
  const ours = (metric, options = {}) => [service, metric, "cluster_id", clusterId, "service", service, options];
  const ask = logged(FUNCTIONS.map((name) => `/aws/lambda/${prefix}-${name.toLowerCase()}`));
  const rows = [
    {
      widgets: [
        metrics(
          "Workers",
          [
            ours("ReadyWorkers", { label: "Ready", color: "#2ca02c" }),
            ours("JoiningWorkers", { label: "joining", color: "#1f77b4" }),
            ours("DrainingWorkers", { label: "leaving", color: "#ff7f0e" }),
            ours("DesiredWorkers", { label: "desired", color: "#7f7f7f" }),
          ],
          { annotations: { horizontal: limits(workers) } },
        ),
        metrics("Pods that wait", [
          ours("UnschedulablePods", { label: "for a worker" }),
          ours("PodsWaitingAtMax", { label: "although workers.max is reached", color: "#d62728" }),
        ]),
      ],
    },
    {
      widgets: [
        ask(
          "Decisions by action",
          "bar",
          `fields strcontains(action, "scale_up") as up, strcontains(action, "scale_down") as down, strcontains(action, "repair") as mend, strcontains(action, "refused") as no
          | filter ispresent(decision_id)
          | stats sum(up) as scale_up, sum(down) as scale_down, sum(mend) as repair, sum(no) as refused by bin(1h)`,
        ),
        ask(
          "Joined, terminated, failed",
          "bar",
          `filter reason = "step"
          | parse message /^worker (?<joined>\\S+) is Ready, /
          | parse message /^instance (?<ended>\\S+) is terminated$/
          | stats count(joined) as workers_joined, count(ended) as workers_terminated, sum(strcontains(step, "failed")) as failures by bin(1h)`,
        ),
        ask(
          "Duration of an evaluation (ms)",
          "timeSeries",
          `filter ispresent(decision_id)
          | stats avg(duration_ms) as average, pct(duration_ms, 95) as p95, max(duration_ms) as longest by bin(15m)`,
        ),
      ],
    },
    {
      widgets: [
        metrics("Trust and trouble", [
          ours("MetricsIncomplete", { label: "metrics incomplete" }),
          ours("JoinFailures", { label: "launches in a row that did not join" }),
          ours("Errors", { label: "errors", stat: "Sum" }),
        ]),
        metrics("Operations", [
          ours("OpenOperations", { label: "open" }),
          ours("StuckOperations", { label: "stuck", color: "#d62728" }),
        ]),
        metrics(
          "Webhook",
          [
            ["AWS/ApiGateway", "Count", "ApiId", "${HttpApi}", { label: "requests" }],
            ["AWS/ApiGateway", "4xx", "ApiId", "${HttpApi}", { label: "4xx: refused" }],
            ["AWS/ApiGateway", "5xx", "ApiId", "${HttpApi}", { label: "5xx: sent again" }],
            ours("WatchdogReceived", { label: "Watchdog heard" }),
          ],
          { stat: "Sum" },
        ),
      ],
    },
    {
      widgets: [
        metrics("Functions: errors and throttles", [...everyFunction("Errors", "Sum"), ...everyFunction("Throttles", "Sum")]),
        metrics("Functions: duration, p95 (ms)", everyFunction("Duration", "p95")),
        metrics(
          "DynamoDB",
          [
            ["AWS/DynamoDB", "ConsumedReadCapacityUnits", "TableName", "${StateTable}", { label: "state: read units" }],
            ["AWS/DynamoDB", "ConsumedWriteCapacityUnits", "TableName", "${StateTable}", { label: "state: write units" }],
            ["AWS/DynamoDB", "ConditionalCheckFailedRequests", "TableName", "${StateTable}", { label: "state: lost races" }],
          ],
          { stat: "Sum" },
        ),
        metrics("Dead letters", [
          ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", "${LifecycleFailures.QueueName}", { label: "events set aside" }],
        ]),
      ],
    },
    { height: 10, widgets: [ask("Last decisions", "table", lastDecisions)] },
  ];
  const alarms = alarmNames.length > 0 ? [{ height: 3, widgets: [alarmStates(alarmNames)] }] : [];
  return JSON.stringify({ widgets: laidOut([...alarms, ...rows]) });
}

// What the policy leaves to its default is not drawn: the number would stand in two places.
async function limitsOf(resolveVariable) {
  const file = await resolveVariable("param:policyFile");
  const read = (name) => resolveVariable(`file(${file}):workers.${name}, null`);
  return { min: await read("min"), max: await read("max") };
}

async function alarmNamesOf(resolveVariable) {
  if (String(await resolveVariable("param:alarms")) !== "true") return [];
  const resources = await resolveVariable("file(cloudformation/alarms.yml):Resources");
  const prefix = await resolveVariable("self:custom.prefix");
  return Object.values(resources)
    .filter(({ Type }) => Type === "AWS::CloudWatch::Alarm")
    .map(({ Properties }) => Properties.AlarmName.replace("${self:custom.prefix}", prefix));
}

module.exports = async ({ resolveVariable }) => ({
  body: body({
    service: await resolveVariable("self:service"),
    clusterId: await resolveVariable("param:clusterId"),
    prefix: await resolveVariable("self:custom.prefix"),
    period: await resolveVariable("self:custom.alarmPeriods.look"),
    workers: await limitsOf(resolveVariable),
    lastDecisions: await resolveVariable("file(cloudformation/queries.yml):Resources.LastDecisionsQuery.Properties.QueryString"),
    alarmNames: await alarmNamesOf(resolveVariable),
  }),
});
