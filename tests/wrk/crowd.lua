-- A crowd as it is: six of ten requests are new buyers, two press again with their key, one sends nonsense, one does
-- not say who it is. Each thread counts its answers and notes the tickets it was told; done() prints the sums.
local threads = {}

function setup(thread)
  thread:set("id", #threads)
  table.insert(threads, thread)
end

function init()
  n, buyers = 0, 0
  won, bad, unknown, gone, other = 0, 0, 0, 0, 0
  tickets, known, odd = "", {}, ""
end

local function order(buyer, body)
  local headers = { ["X-User-Id"] = buyer, ["Idempotency-Key"] = "k-" .. buyer }
  return wrk.format("POST", nil, headers, body)
end

function request()
  n = n + 1
  local kind = n % 10
  if kind == 7 then
    return wrk.format("POST", nil, { ["Idempotency-Key"] = "k" })
  elseif kind == 8 then
    return order("nonsense" .. id .. "-" .. n, '{"quantity":')
  elseif (kind == 5 or kind == 9) and buyers > 0 then
    -- The first buyers of a thread are its winners: repeats hit winners and losers alike.
    return order("b" .. id .. "-" .. (1 + n % buyers))
  end
  buyers = buyers + 1
  return order("b" .. id .. "-" .. buyers)
end

function response(status, headers, body)
  if status == 202 then
    won = won + 1
    local ticket = string.match(body, '"ticket":"(%w+)"')
    if not known[ticket] then
      known[ticket] = true
      tickets = tickets .. ticket .. " "
    end
  elseif status == 400 then bad = bad + 1
  elseif status == 401 then unknown = unknown + 1
  elseif status == 410 then gone = gone + 1
  else
    other = other + 1
    odd = status .. " " .. body
  end
end

function done(summary, latency, requests)
  local sums = { won = 0, bad = 0, unknown = 0, gone = 0, other = 0 }
  for _, thread in ipairs(threads) do
    for name in pairs(sums) do sums[name] = sums[name] + thread:get(name) end
    io.write("tickets ", thread:get("tickets"), "\n")
    if thread:get("odd") ~= "" then io.write("odd ", thread:get("odd"), "\n") end
  end
  for name, sum in pairs(sums) do io.write("count ", name, " ", sum, "\n") end
  io.write("count requests ", summary.requests, "\n")
  io.write("count refused ", summary.errors.status, "\n")
  io.write("count broken ", summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout, "\n")
end
