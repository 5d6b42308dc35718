-- Put dispatches back. KEYS[1] the refill's token   KEYS[2..] work streams
-- ARGV[1] the token   ARGV[2] the last position among the entries   ARGV[3..] entries: index of the key, id, job, version
-- What stands in a stream beyond these entries is not ours, or will be put back later: see publish.lua.
-- Answers -1 when another refill has begun or Redis was emptied once more, else how many were there already.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return -1
end
local present = 0
for i = 3, #ARGV, 4 do
  local key = KEYS[tonumber(ARGV[i])]
  local added = redis.pcall('XADD', key, ARGV[i + 1], 'job', ARGV[i + 2], 'version', ARGV[i + 3])
  if type(added) == 'table' and added.err then
    if string.find(added.err, 'WRONGTYPE', 1, true) then
      redis.call('DEL', key)
      redis.call('XADD', key, ARGV[i + 1], 'job', ARGV[i + 2], 'version', ARGV[i + 3])
    elseif string.find(added.err, 'equal or smaller', 1, true) then
      if is_beyond(field(redis.call('XINFO', 'STREAM', key), 'last-generated-id'), ARGV[2]) then
        rebuild_without_beyond(key, ARGV[2])
        added = redis.pcall('XADD', key, ARGV[i + 1], 'job', ARGV[i + 2], 'version', ARGV[i + 3])
      end
      if type(added) == 'table' and added.err then
        present = present + 1
      end
    else
      return added
    end
  end
end
return present
