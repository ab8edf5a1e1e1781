-- Sells some items in some regions only, and tells the order worker the region.
--
-- The proxy in front knows where a client is and says so in a header; the gateway must believe nobody else's. Needs
-- `headers = ["x-region"]` of [admission.policy].

local region = request.headers["x-region"]
if not region then
  return "deny", "the region is not known"
end
region = region:trim():lower()

-- Only sales whose name says so are bound to a region: `eu-phone`, `us-phone`.
if request.sale:starts_with("eu-") and region ~= "eu" then
  return "deny", "sold in the EU only"
elseif request.sale:starts_with("us-") and region ~= "us" then
  return "deny", "sold in the US only"
end
return "allow", { region = region }
