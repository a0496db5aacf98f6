-- $1 user
-- name: profiles.get
SELECT {profile}
FROM user_profiles
WHERE user_id = $1;
