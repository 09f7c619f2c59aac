-- Health of a VicunaModel for Argo CD; docs/operations.md says where it goes.
-- https://argo-cd.readthedocs.io/en/stable/operator-manual/health/#custom-health-checks
local health = {status = "Progressing", message = "no operator has seen this generation yet"}
local status = obj.status
if status == nil or status.observedGeneration ~= obj.metadata.generation then
  return health
end
local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end
local ready, stalled = conditions["Ready"], conditions["Stalled"]
if ready == nil then
  return health
end
health.message = ready.reason .. ": " .. ready.message
if status.phase == "Suspended" then
  health.status = "Suspended"
elseif ready.status == "True" or ready.reason == "Asleep" then
  health.status = "Healthy"
elseif stalled ~= nil and stalled.status == "True" then
  health.status = "Degraded"
end
return health
