-- For wrk: every write carries 16 requests, as a client does that does not wait for answers.
local DEPTH = 16
local batch

function init(arguments)
   batch = string.rep(wrk.format("GET", "/"), DEPTH)
end

function request()
   return batch
end
