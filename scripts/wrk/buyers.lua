-- Distinct buyers, one order each: every request asks for a unit under a name of its own.
local thread_count = 0
function setup(thread)
  thread:set("id", thread_count)
  thread_count = thread_count + 1
end
local n = 0
function request()
  n = n + 1
  local buyer = "b" .. id .. "-" .. n
  return wrk.format("POST", nil, { ["X-User-Id"] = buyer, ["Idempotency-Key"] = buyer })
end
