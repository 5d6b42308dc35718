-- Which entries are not there. KEYS work streams   ARGV pairs: index of the key, id
-- Answers the numbers, from 1, of the pairs whose entry is missing.
local missing = {}
for i = 1, #ARGV, 2 do
  local found = redis.pcall('XRANGE', KEYS[tonumber(ARGV[i])], ARGV[i + 1], ARGV[i + 1])
  if found.err or #found == 0 then
    missing[#missing + 1] = (i + 1) / 2
  end
end
return missing
