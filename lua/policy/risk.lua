-- A risk score from the user-agent and from how often a client came in the last 10 s.
-- Low: allowed, with the score as an attribute of the order, for the order worker.
-- Middle: only with a purchase pass. High: denied.
--
-- Needs `headers = ["user-agent"]` of [admission.policy], which is the default.

local agent = (request.headers["user-agent"] or ""):lower()
local score = 0

if agent == "" then
  score = score + 40
elseif agent:contains("curl") or agent:contains("python") or agent:contains("headless") then
  score = score + 60
elseif not agent:starts_with("mozilla/") then
  score = score + 20
end

-- A buyer who taps again is no robot; ten orders in ten seconds are.
if request.recent_by_buyer > 10 then
  score = score + 50
elseif request.recent_by_buyer > 5 then
  score = score + 20
end

-- Whole offices and mobile networks share one address: it counts little, and only when it is very busy.
if request.recent_by_address > 500 then
  score = score + 20
end

if score >= 80 then
  return "deny", "too many signs of a robot"
elseif score >= 40 then
  return "challenge"
end
return "allow", { risk = score }
