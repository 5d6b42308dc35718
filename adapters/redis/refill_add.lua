-- Put dispatches back. KEYS[1] the refill's token   KEYS[2..] work streams
-- ARGV[1] the token   ARGV[2..] entries: index of the key, id, job, version
-- Answers -1 when another refill has begun or Redis was emptied once more, else how many were there already.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return -1
end
local present = 0
for i = 2, #ARGV, 4 do
  local key = KEYS[tonumber(ARGV[i])]
  local added = redis.pcall('XADD', key, ARGV[i + 1], 'job', ARGV[i + 2], 'version', ARGV[i + 3])
  if type(added) == 'table' and added.err then
    if string.find(added.err, 'WRONGTYPE', 1, true) then
      redis.call('DEL', key)
      redis.call('XADD', key, ARGV[i + 1], 'job', ARGV[i + 2], 'version', ARGV[i + 3])
    elseif string.find(added.err, 'equal or smaller', 1, true) then
      present = present + 1
    else
      return added
    end
  end
end
return present
