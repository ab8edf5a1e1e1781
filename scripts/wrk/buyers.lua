-- Distinct buyers, one order each: every request asks for a unit under a name of its own, in every run.
-- With RATE in the environment: so many requests a second over all connections, on a fixed schedule; a request that is
-- late because all connections wait is sent as soon as one is free. Its latency counts from when it was sent.
local ffi = require("ffi")
ffi.cdef [[
  struct tidegate_time { long s; long ns; };
  int clock_gettime(int clock, struct tidegate_time *time);
]]
local time = ffi.new("struct tidegate_time")
local function now() -- seconds, monotonic
  ffi.C.clock_gettime(1, time)
  return tonumber(time.s) + tonumber(time.ns) * 1e-9
end

local run = tostring(os.time())
local n = 0
function request()
  n = n + 1
  local buyer = run .. "-" .. n
  return wrk.format("POST", nil, { ["X-User-Id"] = buyer, ["Idempotency-Key"] = buyer })
end

local rate = tonumber(os.getenv("RATE") or "")
if rate then
  local slot = now()
  function delay() -- ms before the next request of this connection
    slot = slot + 1 / rate
    return math.max(0, math.floor((slot - now()) * 1000))
  end
end
