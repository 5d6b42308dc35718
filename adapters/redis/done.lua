-- Acknowledge entries and delete them. KEYS work streams   ARGV[1] group   ARGV[2..] for each: number of ids, the ids
local i = 2
for _, key in ipairs(KEYS) do
  local stop = i + tonumber(ARGV[i])
  i = i + 1
  while i <= stop do
    local last = math.min(stop, i + 999)
    -- XACK fails when the group is gone; what was to be acknowledged is gone with it.
    redis.pcall('XACK', key, ARGV[1], unpack(ARGV, i, last))
    redis.pcall('XDEL', key, unpack(ARGV, i, last))
    i = last + 1
  end
end
return redis.status_reply('OK')
