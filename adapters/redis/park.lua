-- Park entries whose tasks the consumer does not know, until somebody comes who does.
--
-- KEYS triples: work stream, set of its parked tasks, bell of its queue
-- ARGV[1] group   ARGV[2] prefix of the parking consumers' names   ARGV[3] how many tasks a stream may park by name
-- ARGV[4..] for each triple: number of entries, pairs of id and task
--
-- An entry stays in its stream, pending for a consumer that is named after the task: whatever asks whether it is there
-- finds it. An entry that is not pending any more (somebody has claimed it) is left alone. Tasks beyond the limit, and the task "", share
-- one consumer without a name; those entries are looked at again as whatever lies parked for long.
local group, prefix, most = ARGV[1], ARGV[2], tonumber(ARGV[3])
local i = 4
for index = 1, #KEYS, 3 do
  local key, registry, bell = KEYS[index], KEYS[index + 1], KEYS[index + 2]
  if redis.call('TYPE', registry).ok ~= 'set' then redis.call('DEL', registry) end
  local stop = i + 2 * tonumber(ARGV[i])
  local parked = false
  i = i + 1
  while i <= stop do
    local task = ARGV[i + 1]
    local named = task ~= '' and (redis.call('SISMEMBER', registry, task) == 1 or redis.call('SCARD', registry) < most)
    local moved = redis.pcall('XCLAIM', key, group, prefix .. (named and task or ''), 0, ARGV[i], 'JUSTID')
    if not moved.err and #moved > 0 and named then
      redis.call('SADD', registry, task)
      parked = true
    end
    i = i + 2
  end
  if parked then
    if redis.call('TYPE', bell).ok ~= 'stream' then redis.call('DEL', bell) end
    redis.call('XADD', bell, 'MAXLEN', 1, '*', 'rung', '1')
  end
end
return redis.status_reply('OK')
